"""The statements that enclavectl writes: the owner's, one for each release, and the guards.

Each has its reason here, and the same words are in docs/kms.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from enclavectl.attestation.times import render_time
from enclavectl.kms.actions import ADMINISTRATION, DETOURS, PREFIX, RELEASING
from enclavectl.kms.evaluate import ATTESTATION, CONTEXT
from enclavectl.kms.key_policy import EVERYBODY, Condition, Effect, Principals, Statement
from enclavectl.kms.releases import KeyRelease

ZERO = "0" * 96
_EVERYBODY = Principals(accounts=(EVERYBODY,))


def owner_admin(admin: str, *, irrevocable: bool = False) -> Statement:
    """Let the owner administer the key, and do nothing with it. ``irrevocable`` leaves out PutKeyPolicy."""
    actions = [one for one in ADMINISTRATION if not (irrevocable and one == "PutKeyPolicy")]
    return Statement(
        sid="OwnerAdmin",
        effect=Effect.ALLOW,
        principals=Principals(accounts=(admin,)),
        actions=_kms(actions),
    )


def owner_seals(admin: str, context: Mapping[str, str]) -> Statement:
    """Let the owner encrypt with this encryption context. Encrypt takes no document, so none is asked for."""
    return Statement(
        sid="OwnerSeals",
        effect=Effect.ALLOW,
        principals=Principals(accounts=(admin,)),
        actions=_kms(["Encrypt"]),
        conditions=context_conditions(context),
    )


def release_statement(release: KeyRelease, parents: Sequence[str], context: Mapping[str, str]) -> Statement:
    """Let the parents decrypt for an enclave of this release: all of its registers, and its life."""
    life = []
    if release.not_before is not None:
        life.append(_date("DateGreaterThanEquals", render_time(release.not_before)))
    if release.expires is not None:
        life.append(_date("DateLessThan", render_time(release.expires)))
    return Statement(
        sid=release.sid,
        effect=Effect.ALLOW,
        principals=Principals(accounts=tuple(parents)),
        actions=_kms(["Decrypt"]),
        conditions=(*register_conditions(release.pcrs), *context_conditions(context), *life),
    )


def guard() -> Statement:
    """Refuse each releasing call without an enclave's document, whatever another statement may allow."""
    null = Condition(operator="Null", key=f"{ATTESTATION}PCR0", values=("true",))
    return _deny("Guard", _kms(RELEASING), (null,))


def never() -> Statement:
    """Refuse the calls that lead around the attestation, since none of them carries a document."""
    return _deny("Never", _kms(DETOURS), ())


def zero() -> Statement:
    """Refuse an enclave in debug mode: its PCR0 is zero, and the parent reads its memory."""
    return _deny("NoDebug", _kms(RELEASING), register_conditions({0: bytes(48)}))


def revoked(pcrs: Mapping[int, bytes], number: int) -> Statement:
    """Refuse enclaves that hold all of these registers."""
    return _deny(f"Revoked{number}", _kms(RELEASING), register_conditions(pcrs))


def register_conditions(pcrs: Mapping[int, bytes]) -> tuple[Condition, ...]:
    """Ask for these registers. KMS presents lower-case hex; the operator forgives who writes upper case."""
    return tuple(
        Condition(operator="StringEqualsIgnoreCase", key=f"{ATTESTATION}PCR{index}", values=(value.hex(),))
        for index, value in sorted(pcrs.items())
    )


def context_conditions(context: Mapping[str, str]) -> tuple[Condition, ...]:
    """Ask for these pairs of the encryption context."""
    return tuple(
        Condition(operator="StringEquals", key=f"{CONTEXT}{name}", values=(value,))
        for name, value in sorted(context.items())
    )


def _date(operator: str, value: str) -> Condition:
    return Condition(operator=operator, key="aws:CurrentTime", values=(value,))


def _deny(sid: str, actions: tuple[str, ...], conditions: tuple[Condition, ...]) -> Statement:
    return Statement(
        sid=sid, effect=Effect.DENY, principals=_EVERYBODY, actions=actions, conditions=conditions
    )


def _kms(actions: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{PREFIX}{one}" for one in actions)
