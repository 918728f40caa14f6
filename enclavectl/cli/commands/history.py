"""``enclavectl history``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from enclavectl.backends.history import History, HistoryEntry
from enclavectl.backends.registry import resolve_backend
from enclavectl.cli import options
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.config.choices import BackendChoice

HISTORY_SCHEMA = "enclavectl.history/1"
_COLUMNS = ("NAME", "BACKEND", "TRUST", "STARTED (UTC)", "ENDED (UTC)", "HOW")
_LAST_LINES = 5
# Lines on a screen for each of up to 20 enclaves.
_SHOWN_LINES = 2

Limit = Annotated[int, typer.Option("--limit", min=1, metavar="COUNT", help="At most so many, the newest.")]
OfBackend = Annotated[
    BackendChoice | None,
    typer.Option(
        "--backend",
        help="Only enclaves of this backend; auto is the one of enclavectl list. Default: of all.",
    ),
]


def history(
    limit: Limit = 20,
    backend: OfBackend = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """List the enclaves that have ended, and how each did.

    Shows when they ran and the last lines of their consoles. The newest 100 are kept.

    Examples:
      enclavectl history                  the newest 20
      enclavectl history --limit 3        the newest three
      enclavectl history --backend local  simulated ones only
    """
    invocation = begin(output, config, {"backend": backend})
    # Not the configured backend: that says where the next enclave runs, and these have ended.
    only = None if backend is None else resolve_backend(invocation.config)
    ended = History(invocation.config.state_dir).all()
    found = [past for past in ended if only is None or past.backend == only][-limit:]
    if invocation.screen.as_json:
        entries = [{**past.to_json(console=False), "last_lines": _last_lines(past)} for past in found]
        invocation.screen.result({"schema": HISTORY_SCHEMA, "enclaves": entries})
    elif found:
        _show(invocation.screen, found)
    else:
        where = "" if only is None else f" on backend {only}"
        invocation.screen.note(f"no enclave that stayed has ended yet{where}")


def _show(screen: Screen, found: Sequence[HistoryEntry]) -> None:
    rows = [
        (
            past.name,
            past.backend,
            past.trust,
            f"{past.started:%Y-%m-%d %H:%M:%S}",
            "" if past.ended is None else f"{past.ended:%Y-%m-%d %H:%M:%S}",
            past.how,
        )
        for past in found
    ]
    screen.table(_COLUMNS, rows)
    for past in found:
        if lines := _last_lines(past):
            screen.heading(f"the last that {past.name} said (more: enclavectl logs {past.name})")
            screen.facts([("", line) for line in lines[-_SHOWN_LINES:]])


def _last_lines(past: HistoryEntry) -> list[str]:
    return past.console.splitlines()[-_LAST_LINES:]
