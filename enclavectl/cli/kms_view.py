"""The drawing of key policies' findings and verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence

from enclavectl.cli.screen import Screen
from enclavectl.kms import CallExplanation, Finding, Severity
from enclavectl.kms.explain import expectation_of, found_of, part_of


def draw_findings(screen: Screen, findings: Sequence[Finding]) -> None:
    """Draw each finding: what is wrong, why, what to do, and the text to write in its place."""
    for one in findings:
        where = "the key" if one.statement is None else one.statement.name
        screen.heading(f"{one.severity} {one.rule} {where}: {one.title}")
        screen.facts([("why", one.reason), ("do", one.advice)])
        if one.fixed is None or one.severity is Severity.INFO:
            continue
        if not one.fixed:
            screen.facts([("fixed", "leave this statement out")])
        else:
            place = "write" if one.statement is None else "write in its place"
            screen.facts([("fixed", f"{place}:")])
            draw_json(screen, [statement.to_json() for statement in one.fixed])


def draw_json(screen: Screen, values: Sequence[object]) -> None:
    """Draw values as JSON that can be copied, with commas between them."""
    text = ",\n".join(json.dumps(value, indent=2) for value in values)
    for line in text.splitlines():
        screen.drawn((line, ""), soft_wrap=True)


def draw_verdict(screen: Screen, found: CallExplanation) -> None:
    """Draw the verdict, what each statement says, and the conditions of the one that decided."""
    verdict = found.verdict
    statement = "none" if verdict.statement is None else verdict.statement.name
    screen.facts(
        [
            ("verdict", "allowed" if verdict.allowed else "REFUSED"),
            ("because", verdict.reason),
            ("statement", statement),
            ("condition", verdict.key or "none"),
        ]
    )
    screen.table(
        ("STATEMENT", "EFFECT", "WHAT IT SAYS"),
        [(one.statement.name, one.statement.effect.value, part_of(one)) for one in verdict.outcomes],
    )
    deciding = found.deciding
    if deciding is not None and deciding.tested:
        screen.table(
            ("KEY", "ASKED FOR", "FOUND", "HOLDS"),
            [
                (one.condition.key, expectation_of(one), found_of(one), "yes" if one.holds else "NO")
                for one in deciding.tested
            ],
        )
    for assumption in found.assumptions:
        screen.note(f"assumed: {assumption}")
