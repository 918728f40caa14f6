"""The one question that enclavectl asks: whether it may change the host. Only a terminal is asked."""

from __future__ import annotations

import sys

import typer

from enclavectl.errors import UsageError


def require_consent(*, command: str, yes: bool, what: str) -> None:
    """Return if the user agrees that the host is changed: by ``--yes``, or at a terminal.

    Raises:
        UsageError: there is no terminal to ask at, so ``--yes`` has to say it; or the answer was no.
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
