"""The difference between two policies: settings, releases and revocations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from enclavectl.attestation.policy import Policy
from enclavectl.attestation.release import Release, Revocation
from enclavectl.attestation.times import render_time


class PolicyChangeKind(StrEnum):
    """What happened to a setting, a release or an entry of the list of revocations."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class PolicyPart(StrEnum):
    """The part of a policy that a change is in."""

    SETTING = "setting"
    RELEASE = "release"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChange:
    """One change. ``name`` is that of the setting, release or revoked thing; ``field`` is what changed of it.

    ``before`` and ``after`` are as the file has them, None where there is nothing.
    """

    part: PolicyPart
    kind: PolicyChangeKind
    name: str
    field: str | None = None
    before: str | None = None
    after: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the object in the command's JSON."""
        return {
            "part": str(self.part),
            "what": str(self.kind),
            "name": self.name,
            "field": self.field,
            "before": self.before,
            "after": self.after,
        }


def compare_policies(before: Policy, after: Policy) -> tuple[PolicyChange, ...]:
    """List what differs: settings, then releases in the order of ``before``, then revocations.

    A release under another name with the same registers was renamed. The order of releases means nothing.
    """
    return (
        *_fields(PolicyPart.SETTING, "policy", _settings(before), _settings(after)),
        *_releases(before, after),
        *_revocations(before, after),
    )


def _settings(policy: Policy) -> dict[str, str]:
    return {
        "accept": ", ".join(sorted(policy.accept)),
        "max_age_s": str(policy.max_age // timedelta(seconds=1)),
        "clock_skew_s": str(policy.clock_skew // timedelta(seconds=1)),
        "unsafe_allow_debug": str(policy.unsafe_allow_debug).lower(),
    }


def _releases(before: Policy, after: Policy) -> Iterator[PolicyChange]:
    left = {release.name: release for release in after.releases}
    known = {release.name for release in before.releases}
    for old in before.releases:
        new = left.pop(old.name, None)
        if new is None:
            same = (one for one in left.values() if one.pcrs == old.pcrs and one.name not in known)
            new = next(same, None)
            if new is not None:
                del left[new.name]
        if new is None:
            yield _whole(PolicyPart.RELEASE, PolicyChangeKind.REMOVED, f"{old.name} ({old.label})")
        else:
            yield from _fields(PolicyPart.RELEASE, old.name, _release(old), _release(new))
    for release in left.values():
        yield _whole(PolicyPart.RELEASE, PolicyChangeKind.ADDED, f"{release.name} ({release.label})")


def _release(release: Release) -> dict[str, str]:
    fields = {"name": release.name}
    if release.not_before is not None:
        fields["not_before"] = render_time(release.not_before)
    if release.expires is not None:
        fields["expires"] = render_time(release.expires)
    if release.notes:
        fields["notes"] = release.notes
    return {**fields, **{f"PCR{index}": value.hex() for index, value in release.pcrs.items()}}


def _revocations(before: Policy, after: Policy) -> Iterator[PolicyChange]:
    def subject(entry: Revocation) -> tuple[str | None, tuple[tuple[int, bytes], ...]]:
        return entry.label, tuple((entry.pcrs or {}).items())

    old = {subject(entry): entry for entry in before.revoked}
    new = {subject(entry): entry for entry in after.revoked}
    for key, entry in old.items():
        if key not in new:
            yield _whole(PolicyPart.REVOKED, PolicyChangeKind.REMOVED, entry.subject)
        else:
            yield from _fields(PolicyPart.REVOKED, entry.subject, _revocation(entry), _revocation(new[key]))
    for key, entry in new.items():
        if key not in old:
            yield _whole(PolicyPart.REVOKED, PolicyChangeKind.ADDED, entry.subject)


def _revocation(entry: Revocation) -> dict[str, str]:
    fields = {"date": render_time(entry.date), "reason": entry.reason}
    return {**fields, "name": entry.name} if entry.name else fields


def _whole(part: PolicyPart, kind: PolicyChangeKind, name: str) -> PolicyChange:
    return PolicyChange(part=part, kind=kind, name=name)


def _fields(
    part: PolicyPart, name: str, before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[PolicyChange]:
    for field in dict.fromkeys([*before, *after]):
        old, new = before.get(field), after.get(field)
        if old != new:
            kind = PolicyChangeKind.CHANGED
            yield PolicyChange(part=part, kind=kind, name=name, field=field, before=old, after=new)
