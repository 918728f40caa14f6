"""``enclavectl selftest``."""

from __future__ import annotations

from typing import Annotated

import typer

from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.errors import EnclaveError, UsageError
from enclavectl.selftest.demonstrations import ATTACKS, Demonstration, demonstrate

SCHEMA = "enclavectl.selftest/1"

Tamper = Annotated[
    bool, typer.Option("--tamper", help="Try every attack. Required: it is the one test there is.")
]


def selftest(tamper: Tamper = False, output: Output = OutputFormat.TEXT) -> None:
    """Try the attacks that must be refused, on this machine.

    Starts enclaves of the local backend in a folder of their own, and ends them. Each row of the table is
    explained in docs/threat-model.md. Exit code 0 only if every attack was refused, by the right rule.

    Examples:
      enclavectl selftest --tamper                a table
      enclavectl selftest --tamper --output json  for scripts
    """
    screen = screen_for(output)
    if not tamper:
        raise UsageError(
            "selftest: expected --tamper, found nothing to do", hint="enclavectl selftest --tamper"
        )
    done: list[Demonstration] = []
    for number, one in enumerate(demonstrate(), start=1):
        done.append(one)
        screen.count("attacks", number, len(ATTACKS), "tried")
    screen.end_count()
    passed = [one for one in done if not one.is_refused]
    if screen.as_json:
        screen.result(
            {"schema": SCHEMA, "all_refused": not passed, "attacks": [_to_json(one) for one in done]}
        )
    else:
        screen.table(("ATTACK", "WHAT WAS TRIED", "REFUSED BY", "CODE", "SEALED BYTES SENT"), map(_row, done))
    if passed:
        raise EnclaveError(
            f"selftest: expected every attack to be refused, found that {len(passed)} were not: "
            + ", ".join(one.attack.name for one in passed),
            hint="send no real picture with this installation, and report it (SECURITY.md)",
            code="not-refused",
            after_answer=True,
        )


def _to_json(one: Demonstration) -> dict[str, object]:
    return {
        "name": one.attack.name,
        "tried": one.attack.tried,
        "refused": one.is_refused,
        "refused_by": str(one.attack.defender),
        "code": one.code,
        "sealed_bytes": one.sealed_bytes,
        "seconds": round(one.seconds, 3),
    }


def _row(one: Demonstration) -> tuple[str, str, str, str, str]:
    by = str(one.attack.defender) if one.is_refused else "NOBODY"
    return one.attack.name, one.attack.tried, by, one.code or "-", str(one.sealed_bytes)
