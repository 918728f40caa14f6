"""The drawing of policies and of what they say of a document."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from enclavectl.attestation import Explanation, Policy
from enclavectl.attestation.comparison import RegisterComparison
from enclavectl.attestation.times import render_time
from enclavectl.cli.screen import Screen

_SHOWN = 16  # hex digits of a register: enough to tell two apart, and they fit on a line


def draw_policy(screen: Screen, policy: Policy, *, at: datetime) -> None:
    """Draw the settings, a table of the releases, their notes, and the revocations."""
    screen.facts(
        [
            ("accepts", ", ".join(sorted(policy.accept))),
            ("max age", f"{policy.max_age // timedelta(seconds=1)} s"),
            ("clock skew", f"{policy.clock_skew // timedelta(seconds=1)} s"),
            ("debug mode", "allowed (unsafe)" if policy.unsafe_allow_debug else "refused"),
        ]
    )
    screen.table(
        ("RELEASE", "STATE", "FROM", "UNTIL", "LABEL", "PINS"),
        [
            (
                one.name,
                str(policy.state_of(one, at)),
                _time(one.not_before),
                _time(one.expires),
                one.label,
                _numbers(one.pcrs),
            )
            for one in policy.releases
        ],
    )
    for one in policy.releases:
        if one.notes:
            screen.facts([(f"notes on {one.name}", " ".join(one.notes.split("\n")))])
    if policy.revoked:
        rows = [(entry.subject, render_time(entry.date), entry.reason) for entry in policy.revoked]
        screen.table(("REVOKED", "SINCE", "REASON"), rows)


def draw_explanation(screen: Screen, found: Explanation) -> None:
    """Draw each release beside the document: the nearest with its registers, the others on a line each."""
    if found.is_debug:
        screen.facts([("document", "debug mode: PCR0, PCR1 and PCR2 are all zero")])
    if found.revocation is not None:
        entry = found.revocation
        screen.facts([("revoked", f"{entry.subject}, {render_time(entry.date)}: {entry.reason}")])
    nearest = found.nearest
    if nearest is None:
        return
    title = "release" if nearest.comparison.is_match else "nearest release"
    screen.facts([(title, nearest.release.name), ("state", str(nearest.state))])
    screen.table(
        ("PCR", "RESULT", "RELEASE", "DOCUMENT"),
        [_register_row(one) for one in nearest.comparison.registers],
    )
    others = [
        (one.release.name, str(one.state), _numbers(reg.index for reg in one.comparison.differences))
        for one in found.judged[1:]
    ]
    if others:
        screen.table(("OTHER RELEASE", "STATE", "DIFFERS IN"), others)


def _register_row(one: RegisterComparison) -> tuple[str, str, str, str]:
    found = "" if one.found is None else f"{one.found.hex()[:_SHOWN]}..."
    return f"PCR{one.index}", str(one.state), f"{one.expected.hex()[:_SHOWN]}...", found


def _numbers(indexes: Iterable[int]) -> str:
    return ", ".join(str(index) for index in indexes)


def _time(when: datetime | None) -> str:
    return "" if when is None else render_time(when).removesuffix("T00:00:00Z")
