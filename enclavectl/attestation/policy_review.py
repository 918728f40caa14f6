"""What is worth knowing of a policy that can be used: what it lets through, and what soon ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from enclavectl.attestation.policy import Policy
from enclavectl.attestation.registers import INSTANCE_PCR
from enclavectl.attestation.release import LifeState, Release
from enclavectl.attestation.times import render_time
from enclavectl.label import MODEL_PCR
from enclavectl.trust import Trust


class PolicySeverity(StrEnum):
    """How much a finding matters. With an error, nothing passes the policy."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFinding:
    """One thing to know. ``code`` is stable; ``release`` is the name of the release it is about, if any."""

    severity: PolicySeverity
    code: str
    message: str
    release: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the object in the command's JSON."""
        return {
            "severity": str(self.severity),
            "code": self.code,
            "release": self.release,
            "message": self.message,
        }


def review_policy(policy: Policy, *, at: datetime) -> tuple[PolicyFinding, ...]:
    """Look at a policy at one time; errors are first, then warnings, then notes."""
    order = list(PolicySeverity)
    return tuple(sorted(_findings(policy, at), key=lambda one: order.index(one.severity)))


def _findings(policy: Policy, at: datetime) -> Iterator[PolicyFinding]:
    yield from _about_policy(policy, at)
    for release in policy.releases:
        yield from _about_life(policy, release, at)
        yield from _about_registers(release)
        yield from _wider(policy, release, at)
        yield from _repeated(policy, release, at)


def _about_policy(policy: Policy, at: datetime) -> Iterator[PolicyFinding]:
    states = [policy.state_of(one, at) for one in policy.releases]
    if LifeState.VALID not in states and not policy.unsafe_allow_debug:
        yield PolicyFinding(
            severity=PolicySeverity.ERROR,
            code="nothing-valid",
            message="no release is valid at this time, so every enclave is refused",
        )
    if policy.unsafe_allow_debug:
        yield PolicyFinding(
            severity=PolicySeverity.WARNING,
            code="debug-allowed",
            message="unsafe_allow_debug: enclaves whose code nothing measures pass as well",
        )
    weak = sorted(str(one) for one in policy.accept - {Trust.NITRO})
    if weak:
        yield PolicyFinding(
            severity=PolicySeverity.WARNING,
            code="not-nitro",
            message=f"accept has {', '.join(weak)}: such evidence protects nothing; for tests only",
        )


def _about_life(policy: Policy, release: Release, at: datetime) -> Iterator[PolicyFinding]:
    state = policy.state_of(release, at)
    begin = "" if release.not_before is None else render_time(release.not_before)
    end = "" if release.expires is None else render_time(release.expires)
    messages = {
        LifeState.NOT_YET_VALID: f"is valid only from {begin}",
        LifeState.EXPIRED: f"expired at {end}; it may be taken out",
        LifeState.REVOKED: "is revoked",
    }
    if state in messages:
        yield PolicyFinding(
            severity=PolicySeverity.NOTE,
            code=str(state),
            message=f"release {release.name} {messages[state]}",
            release=release.name,
        )
        return
    note = release.expiry_note(at)
    if note is not None:
        yield PolicyFinding(
            severity=PolicySeverity.WARNING,
            code="expires-soon",
            message=note.message,
            release=release.name,
        )


def _about_registers(release: Release) -> Iterator[PolicyFinding]:
    if MODEL_PCR not in release.pcrs:
        yield PolicyFinding(
            severity=PolicySeverity.NOTE,
            code="model-not-pinned",
            message=f"release {release.name} does not pin PCR{MODEL_PCR}: the image alone says which model",
            release=release.name,
        )
    if INSTANCE_PCR in release.pcrs:
        yield PolicyFinding(
            severity=PolicySeverity.NOTE,
            code="one-instance",
            message=f"release {release.name} pins PCR{INSTANCE_PCR}, so it passes on one instance only",
            release=release.name,
        )


def _wider(policy: Policy, release: Release, at: datetime) -> Iterator[PolicyFinding]:
    """Warn of a valid release that accepts all that an expired one accepted, because it pins less."""
    if policy.state_of(release, at) is not LifeState.VALID:
        return
    for other in policy.releases:
        is_wider = release.pcrs.items() < other.pcrs.items()
        if is_wider and policy.state_of(other, at) is LifeState.EXPIRED:
            yield PolicyFinding(
                severity=PolicySeverity.WARNING,
                code="wider-release",
                message=f"release {release.name} pins less than the expired {other.name}: it accepts both",
                release=release.name,
            )


def _repeated(policy: Policy, release: Release, at: datetime) -> Iterator[PolicyFinding]:
    """Warn of a release that pins what an earlier one pins: neither can be ended without the other."""
    if policy.state_of(release, at) in (LifeState.EXPIRED, LifeState.REVOKED):
        return
    first = next(one for one in policy.releases if one.pcrs == release.pcrs)
    if first.name != release.name:
        yield PolicyFinding(
            severity=PolicySeverity.WARNING,
            code="same-registers",
            message=f"release {release.name} pins the same registers as {first.name}: neither can be retired "
            "before the other is taken out",
            release=release.name,
        )
