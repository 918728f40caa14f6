"""The checklist: the recipe and what hangs on it, step by step, with what each step saw, also on failure.

::

    verification = examine(Case(document=..., root=aws_nitro_root(), policy=policy,
                                at=datetime.now(UTC), nonce=my_nonce))
    verification.require()     # raises the error of the first broken step

A caller without a policy or a nonce of its own, or one that judges a document at the document's time, says so
with a ``Waiver``: there is no default that leaves a step out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal

from enclavectl.attestation import (
    ArchivedDocument,
    AttestationCode,
    Demands,
    Facts,
    Policy,
    Release,
    TrustRoot,
)
from enclavectl.attestation.chain import TIME
from enclavectl.attestation.codes import refused
from enclavectl.attestation.recipe import Step, take_steps
from enclavectl.errors import AttestationError
from enclavectl.evidence.file import EvidenceCode, EvidenceError, EvidenceFile, KeptReceipt
from enclavectl.protocol.answers import ContentError
from enclavectl.protocol.key_config import (
    MODEL_PCR,
    KeyConfig,
    ModelCard,
    key_config_digest,
    model_register,
    parse_key_config,
)

NOT_REACHED = "not reached"
# A document is made between the challenge and the end of the client's wait (a minute for an enclave that
# boots); two clocks may differ by ten minutes at most (attestation.policy.CLOCK_SKEW_LIMIT).
_SESSION_WINDOW = timedelta(minutes=15)


class Waiver(Enum):
    """What a caller does without, in so many words."""

    NO_POLICY = "any enclave will do, whatever code it runs"
    NO_NONCE = "no nonce of the caller's own: the document may be a recording"
    DOCUMENT_TIME = "judged at the document's own time: it proves nothing about now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be judged, and by what.

    ``policy`` is None where there is none: every other step is taken, and the verdict is never ``verified``.
    ``at`` is the time of judgement, with its zone; ``is_now`` if that is the caller's clock. ``nonce`` is the
    caller's own; that of an evidence file proves nothing to anyone but the client that drew it.
    """

    document: bytes
    root: TrustRoot
    policy: Policy | Literal[Waiver.NO_POLICY] | None
    at: datetime | Literal[Waiver.DOCUMENT_TIME]
    nonce: bytes | Literal[Waiver.NO_NONCE]
    is_now: bool = True
    evidence: EvidenceFile | None = None
    receipts: tuple[KeptReceipt, ...] = ()
    picture: bytes | None = None

    @property
    def demands(self) -> Demands:
        """What the recipe holds the document to."""
        nonce = None if self.evidence is None else self.evidence.nonce
        return Demands(
            root=self.root,
            policy=self.policy if isinstance(self.policy, Policy) else None,
            at=self.at if isinstance(self.at, datetime) else None,
            nonce=self.nonce if isinstance(self.nonce, bytes) else nonce,
            user_data=None if self.evidence is None else key_config_digest(self.evidence.key_config),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the checklist. ``ok`` is None if nothing was demanded, or the step was not reached."""

    id: str
    ok: bool | None
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a judgement: verified if there is no ``error``.

    ``facts`` are None if the document's signature was not reached: nothing it says is known then.
    """

    checks: tuple[Check, ...]
    error: AttestationError | None
    case: Case | None = None
    facts: Facts | None = None
    card: ModelCard | None = None

    @property
    def verified(self) -> bool:
        """True if every step passed and a policy was met, or the caller waived the policy."""
        return self.error is None

    @property
    def is_fresh(self) -> bool:
        """True if the document answers the caller's own nonce, now, within the policy's age."""
        case = self.case
        return (
            self.verified
            and case is not None
            and isinstance(case.at, datetime)
            and case.is_now
            and isinstance(case.nonce, bytes)
            and isinstance(case.policy, Policy)
        )

    @property
    def judged_at(self) -> datetime | None:
        """The time of judgement: the case's, or that of the document once it is known."""
        if self.case is not None and isinstance(self.case.at, datetime):
            return self.case.at
        return None if self.facts is None else self.facts["timestamp"]

    @property
    def release(self) -> Release | None:
        """The release of the policy that matched."""
        policy = None if self.case is None else self.case.policy
        if self.facts is None or not isinstance(policy, Policy):
            return None
        return next((one for one in policy.releases if one.name == self.facts["release"]), None)

    @property
    def is_model_pinned(self) -> bool:
        """True if the policy's release pins the model's register, and the document has that value."""
        return self.release is not None and MODEL_PCR in self.release.pcrs

    def require(self) -> Facts:
        """Return what the document proved.

        Raises:
            AttestationError: the first broken step.
        """
        if self.error is not None:
            raise self.error
        if self.facts is None:
            raise AssertionError("a verification without facts")
        return self.facts


def unreadable(error: AttestationError) -> Verification:
    """Return the verification of a file that cannot be read: not one step of the recipe was reached."""
    later = tuple(Check(id=step.value, ok=None, seen=NOT_REACHED) for step in Step)
    return Verification(checks=(Check(id="file", ok=False, seen=error.message), *later), error=error)


def examine(case: Case) -> Verification:
    """Take every step of the case until one fails, and keep what each saw.

    Raises:
        UsageError: ``case.at`` has no time zone.
    """
    examination = _Examination(case)
    planned = _plan(case)
    checks: list[Check] = []
    error: AttestationError | None = None
    try:
        for check in examination.steps():
            checks.append(check)  # noqa: PERF402 - the list must be there when the next step raises
    except AttestationError as refusal:
        error = refusal
        checks.append(Check(id=planned[len(checks)], ok=False, seen=refusal.message))
        checks += [Check(id=name, ok=None, seen=NOT_REACHED) for name in planned[len(checks) :]]
    return Verification(
        checks=tuple(checks), error=error, case=case, facts=examination.facts, card=examination.card
    )


def _plan(case: Case) -> list[str]:
    """Return the ids of the case's steps, in their order."""
    plan = [step.value for step in Step]
    if case.evidence is not None:
        plan = ["file", *plan, "session", "model"]
    if case.policy is None:
        plan.append("policy")
    return plan


@dataclass(slots=True)
class _Examination:
    """One judgement under way."""

    case: Case
    facts: Facts | None = None
    card: ModelCard | None = None
    _document: ArchivedDocument | None = field(default=None, init=False)

    def steps(self) -> Iterator[Check]:
        """Yield each step of ``_plan`` after it passed.

        Raises:
            AttestationError: the step after the last one yielded failed.
        """
        evidence = self.case.evidence
        if evidence is not None:
            yield _check_file(evidence, self.case.root)
        for taken in take_steps(self.case.document, self.case.demands):
            self.facts = taken.facts
            yield Check(id=taken.step.value, ok=True if taken.was_checked else None, seen=taken.seen)
        if self.facts is None:
            raise AssertionError("the recipe ended without facts")
        if evidence is not None:
            yield _check_session(evidence, self.facts)
            self.card = _read_key_config(evidence).card
            yield _check_model(self.card, self.facts)
        if self.case.policy is None:
            raise EvidenceError(
                EvidenceCode.NO_POLICY,
                "not judged: no policy says which code is the right one, so this may be anybody's enclave",
            )


def _check_file(evidence: EvidenceFile, root: TrustRoot) -> Check:
    """Check that the file speaks of the root that the document is held to."""
    if evidence.root.sha256 != root.fingerprint:
        raise EvidenceError(
            EvidenceCode.ROOT,
            f"root: expected {root.name} (SHA-256 {root.fingerprint[:16]}...), "
            f"found a session under {evidence.root.name} ({evidence.root.sha256[:16]}...)",
        )
    return Check(id="file", ok=True, seen=f"evidence file of {evidence.tool}; its content has its hash")


def _check_session(evidence: EvidenceFile, facts: Facts) -> Check:
    """Check what the file says of its session against what the document says."""
    if evidence.nonce != facts["nonce"]:
        raise refused(AttestationCode.NONCE, "nonce: the file's is not the document's")
    apart = facts["timestamp"] - evidence.requested_at
    if abs(apart) > _SESSION_WINDOW:
        raise EvidenceError(
            EvidenceCode.TIME,
            f"requested_at: expected a time within {_SESSION_WINDOW} of the document's "
            f"{facts['timestamp']:{TIME}}, found {evidence.requested_at:{TIME}}",
        )
    seen = f"asked at {evidence.requested_at:{TIME}} by the client's clock, with the document's nonce"
    return Check(id="session", ok=True, seen=seen)


def _read_key_config(evidence: EvidenceFile) -> KeyConfig:
    try:
        return parse_key_config(evidence.key_config)
    except ContentError as exc:
        raise EvidenceError(
            EvidenceCode.KEY_CONFIG, f"key configuration: attested, but not of protocol version 1 ({exc})"
        ) from exc


def _check_model(card: ModelCard, facts: Facts) -> Check:
    """Check the attested card against the register that the enclave extended with it, where it has one."""
    shown = f"{card.model_id}, SHA-256 {card.sha256[:16]}..."
    register = facts["pcrs"].get(MODEL_PCR)
    if register is None or not any(register):
        seen = f"{shown}, as the attested card says; PCR{MODEL_PCR} measures no model"
        return Check(id="model", ok=None, seen=seen)
    expected = model_register(card.to_json())
    if register != expected:
        raise EvidenceError(
            EvidenceCode.MODEL_REGISTER,
            f"PCR{MODEL_PCR}: expected {expected.hex()[:16]}... of the attested card, "
            f"found {register.hex()[:16]}...",
        )
    return Check(id="model", ok=True, seen=f"{shown}; PCR{MODEL_PCR} measures this card")
