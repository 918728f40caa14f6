"""``enclavectl logs``."""

from __future__ import annotations

from enclavectl.backends.history import History, HistoryEntry
from enclavectl.cli import options
from enclavectl.cli.console_text import print_console
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.errors import StateError
from enclavectl.suggest import suggestion

LOGS_SCHEMA = "enclavectl.logs/1"


def logs(
    name: options.EndedName,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Print the last console lines of an enclave that has ended.

    Also says when and how it ended. If several had that name, the newest one is shown. While an enclave runs:
    enclavectl console.

    Examples:
      enclavectl logs first                its last lines
      enclavectl logs first --output json  with all that is kept of it
    """
    invocation = begin(output, config, {})
    history = History(invocation.config.state_dir)
    past = history.find(name)
    if past is None:
        names = sorted({one.name for one in history.all()})
        raise StateError(
            f"{name}: no enclave of this name is known to have ended"
            + (f"; {suggestion(name, names)}" if names else ""),
            hint=f"enclavectl console {name} shows one that runs; enclavectl history lists the others",
        )
    if invocation.screen.as_json:
        value = {"schema": LOGS_SCHEMA, "trust": past.trust, "enclave": past.to_json()}
        invocation.screen.result(value)
        return
    invocation.screen.note(f"{past.name} ({past.trust}), started {past.started:%Y-%m-%d %H:%M:%S} UTC")
    if past.console:
        print_console([past.console.encode()])
    else:
        invocation.screen.note("it left no console: only debug mode gives a Nitro enclave one")
    invocation.screen.note(_end_of(past))


def _end_of(past: HistoryEntry) -> str:
    when = "the time is not known" if past.ended is None else f"{past.ended:%Y-%m-%d %H:%M:%S} UTC"
    return f"{past.name} ended ({when}): {past.how}"
