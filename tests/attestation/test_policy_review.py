"""What a policy lets through, and what differs between two."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given

from enclavectl.attestation import Policy, Release, Revocation, Trust
from enclavectl.attestation.policy_diff import compare_policies
from enclavectl.attestation.policy_review import PolicySeverity, review_policy
from tests.attestation.policies import policies_of
from tests.forge import PCRS, RELEASE, accepting

NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FAR = Release(name="far", pcrs=dict.fromkeys((0, 1, 2), b"\xee" * 48))
NEAR = replace(RELEASE, name="near", pcrs={**PCRS, 2: b"\xee" * 48, 16: b"\x66" * 48})


def codes(policy: Policy, at: datetime) -> list[tuple[str, str | None]]:
    return [(one.code, one.release) for one in review_policy(policy, at=at)]


MODEL = {16: b"\x66" * 48}
NITRO = replace(accepting(replace(RELEASE, pcrs={**PCRS, **MODEL})), accept=frozenset({Trust.NITRO}))


def test_a_policy_without_a_flaw_has_no_findings() -> None:
    assert codes(NITRO, NOON) == []


def test_what_is_worth_knowing_of_a_policy() -> None:
    model = {**PCRS, **MODEL}
    releases = (
        Release(name="ended", pcrs=model, expires=NOON),
        Release(name="wide", pcrs=PCRS, expires=NOON + 3 * DAY),
        Release(name="later", pcrs={**model, 0: b"\1" * 48}, not_before=NOON + DAY),
        Release(name="bad", pcrs={**model, 0: b"\2" * 48}, expires=NOON),
        Release(name="host", pcrs={**model, 0: b"\3" * 48, 4: b"\4" * 48}),
    )
    entry = Revocation(date=NOON, reason="r", label=releases[3].label)
    accept = frozenset({Trust.NITRO, Trust.SIMULATED})
    policy = replace(NITRO, releases=releases, revoked=(entry,), accept=accept)
    assert codes(policy, NOON) == [
        ("not-nitro", None),
        ("expires-soon", "wide"),
        ("wider-release", "wide"),
        ("expired", "ended"),
        ("model-not-pinned", "wide"),
        ("not-yet-valid", "later"),
        ("revoked", "bad"),
        ("one-instance", "host"),
    ]
    assert codes(replace(policy, unsafe_allow_debug=True), NOON)[0] == ("debug-allowed", None)


def test_a_second_release_of_the_same_registers_is_told_while_it_may_pass() -> None:
    first = NITRO.releases[0]
    twice = replace(NITRO, releases=(first, replace(first, name="again")))
    assert codes(twice, NOON) == [("same-registers", "again")]
    ended = replace(twice, releases=tuple(replace(one, expires=NOON) for one in twice.releases))
    assert ("same-registers", "again") not in codes(ended, NOON)


def test_a_policy_that_refuses_everything_has_an_error() -> None:
    ended = replace(NITRO, releases=(replace(NITRO.releases[0], expires=NOON),))
    found = review_policy(ended, at=NOON)
    assert (found[0].severity, found[0].code) == (PolicySeverity.ERROR, "nothing-valid")
    assert PolicySeverity.ERROR not in {one.severity for one in review_policy(ended, at=NOON - DAY)}


def changes(before: Policy, after: Policy) -> list[tuple[str, str, str, str | None]]:
    return [(str(one.part), str(one.kind), one.name, one.field) for one in compare_policies(before, after)]


@given(policies_of(at_least=0))
def test_a_policy_does_not_differ_from_itself_in_another_order(policy: Policy) -> None:
    turned = replace(policy, releases=policy.releases[::-1], revoked=policy.revoked[::-1])
    assert compare_policies(policy, turned) == ()


def test_what_differs_is_said_part_by_part() -> None:
    entry = Revocation(date=NOON, reason="r", label=FAR.label)
    before = accepting(RELEASE, FAR)
    after = replace(
        accepting(replace(RELEASE, expires=NOON, pcrs={**PCRS, **MODEL}), NEAR),
        revoked=(entry,),
        max_age=timedelta(seconds=60),
    )
    assert changes(before, after) == [
        ("setting", "changed", "policy", "max_age_s"),
        ("release", "changed", "1.0", "expires"),
        ("release", "changed", "1.0", "PCR16"),
        ("release", "removed", f"far ({FAR.label})", None),
        ("release", "added", f"near ({NEAR.label})", None),
        ("revoked", "added", f"label {FAR.label}", None),
    ]
    again = replace(after, revoked=(replace(entry, reason="another"),))
    assert changes(after, again) == [("revoked", "changed", f"label {FAR.label}", "reason")]


def test_a_release_with_the_same_registers_was_renamed() -> None:
    [change] = compare_policies(accepting(RELEASE), accepting(replace(RELEASE, name="2026.1")))
    assert (change.name, change.field, change.before, change.after) == ("1.0", "name", "1.0", "2026.1")
