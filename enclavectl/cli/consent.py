"""The question whether enclavectl may change the host, asked only at a terminal."""

from __future__ import annotations

import sys

import typer

from enclavectl.errors import UsageError


def require_consent(*, command: str, yes: bool, what: str) -> None:
    """Require the user's consent to a change of the host: ``--yes``, or an answer at a terminal.

    Raises:
        UsageError: there is neither ``--yes`` nor a terminal, or the answer was no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{what}: this changes the host, and there is no terminal to ask at",
            hint=f"enclavectl {command} --yes agrees; with --dry-run it shows what it would do",
            code="needs-yes",
        )
    if not typer.confirm(f"{what}: go on?", default=False, err=True):
        raise UsageError(
            "nothing was changed", hint=f"enclavectl {command} --dry-run shows what would be done"
        )
