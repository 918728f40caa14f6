"""The verifier: from bytes and a policy to a VerifiedDocument, or an AttestationError.

The rules are the steps of ``recipe``; here stand the two ways to take them, and what each result is worth.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, fields
from datetime import datetime
from typing import Any, Self

from enclavectl.attestation.document import MAX_OPTIONAL_BYTES
from enclavectl.attestation.policy import Policy
from enclavectl.attestation.recipe import Demands, Facts, Step, take_steps
from enclavectl.attestation.trust import Root
from enclavectl.errors import UsageError

MIN_NONCE_BYTES = 16  # 128 random bits do not repeat by chance

_PROOF = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDocument(Facts):
    """Evidence that passed ``verify``, live. Functions that need trust take this type.

    ``release`` is the name of the release that matched, None for a debug enclave (``trust`` says so).
    Only ``verify`` makes one. That guards against mistakes, not against hostile code in this process.
    """

    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        """Refuse callers other than ``verify``."""
        if proof is not _PROOF:
            raise TypeError("a VerifiedDocument comes from attestation.verify() and nowhere else")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedDocument(Facts):
    """A document that was genuine at its own time. It proves nothing about now: do not seal to it."""

    @classmethod
    def of(cls, facts: Facts) -> Self:
        """Return what a checklist found out, as an archived document."""
        return cls(**_values(facts))


def verify(
    document: bytes, policy: Policy, *, root: Root, nonce: bytes, user_data: bytes, now: datetime
) -> VerifiedDocument:
    """Judge the document with which an enclave answered this session's challenge.

    This takes every step of ``recipe.take_steps``. ``nonce`` is this client's random value for this session.
    ``user_data`` is the value that the document must bind: the caller computes it from the key that it will
    seal to. ``now`` has a time zone.

    Raises:
        AttestationError: ``code`` is an AttestationCode.
        UsageError: ``nonce`` (16 to 1024 bytes), ``user_data`` (1 to 1024 bytes) or ``now`` cannot be used.
    """
    _check_arguments(nonce, user_data)
    demands = Demands(root=root, policy=policy, at=now, nonce=nonce, user_data=user_data)
    return VerifiedDocument(**_values(_last_facts(document, demands)), proof=_PROOF)


def examine_archived(document: bytes, policy: Policy | None, *, root: Root) -> ArchivedDocument:
    """Judge a document at its own time; the result is no evidence for a session.

    This takes the steps of ``recipe.take_steps`` at the document's own time, without freshness, nonce and
    user data; without a policy, also without debug mode and release. The owner of an old leaf key could
    still sign for that time, and the nonce proves nothing to anyone but the client that drew it.

    Raises:
        AttestationError: ``code`` is an AttestationCode.
    """
    demands = Demands(root=root, policy=policy, at=None, nonce=None, user_data=None)
    return ArchivedDocument.of(_last_facts(document, demands))


def _last_facts(document: bytes, demands: Demands) -> Facts:
    """Take every step, and return the facts of the last one."""
    *_, last = take_steps(document, demands)
    if (
        last.facts is None or last.step is not Step.USER_DATA
    ):  # a defect of the recipe, never to be passed over
        raise AssertionError("the recipe ended early")
    return last.facts


def _values(facts: Facts) -> dict[str, Any]:
    return {one.name: getattr(facts, one.name) for one in fields(Facts)}


def _check_arguments(nonce: bytes, user_data: bytes) -> None:
    """Refuse expectations that any document could satisfy: they are a mistake of the caller."""
    if not MIN_NONCE_BYTES <= len(nonce) <= MAX_OPTIONAL_BYTES:
        raise UsageError(
            f"nonce: expected {MIN_NONCE_BYTES} to {MAX_OPTIONAL_BYTES} bytes, found {len(nonce)}"
        )
    if not 1 <= len(user_data) <= MAX_OPTIONAL_BYTES:
        raise UsageError(f"user_data: expected 1 to {MAX_OPTIONAL_BYTES} bytes, found {len(user_data)}")
