"""``enclavectl terminate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.backends.history import History
from enclavectl.backends.registry import choose_backend, find_enclave
from enclavectl.cli import options
from enclavectl.cli.announcing import announce_running
from enclavectl.cli.invocation import Invocation, begin
from enclavectl.cli.options import OutputFormat
from enclavectl.errors import EnclavectlError, StateError, UsageError

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, Enclave

TERMINATED_SCHEMA = "enclavectl.terminated/1"

Every = Annotated[bool, typer.Option("--all", help="End every enclave of this host.")]


def terminate(
    name: options.OptionalName = None,
    every: Every = False,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """End an enclave, or all of them.

    Removes what belonged to the enclave. The last lines of its console stay: enclavectl logs prints them. One
    that has ended already is no error. With --all, each that can be ended is, whatever the others do.

    Examples:
      enclavectl terminate first  end one enclave
      enclavectl terminate --all  end all enclaves of this host
    """
    if (name is None) is not every:
        found = "neither" if name is None else "both"
        raise UsageError(
            f"terminate: expected a name or --all, found {found}", hint="enclavectl list shows the names"
        )
    invocation = begin(output, config, {"backend": backend})
    invocation.screen.outlive_reader()
    chosen = choose_backend(invocation.config, invocation.screen)
    to_end = chosen.enclaves() if name is None else _find_or_past(invocation, chosen, name)
    ended: list[str] = []
    failures: list[EnclavectlError] = []
    for enclave in to_end:
        try:
            chosen.terminate(enclave)
            ended.append(enclave.name)
        except EnclavectlError as error:
            failures.append(error)
            if len(to_end) > 1:
                invocation.screen.note(error.message)
    announce_running(invocation, chosen)
    if failures:
        raise failures[0]
    if invocation.screen.as_json:
        value = {"schema": TERMINATED_SCHEMA, "backend": chosen.name, "terminated": ended}
        invocation.screen.result(value)
    else:
        for one in ended:
            invocation.screen.drawn((f"terminated {one}", ""))
        if not ended and every:
            invocation.screen.note("no enclave to terminate")


def _find_or_past(invocation: Invocation, chosen: Backend, name: str) -> list[Enclave]:
    """Return the enclave with that name; if it has ended already, note that and return none.

    Raises:
        StateError: no enclave has or had that name or id, or several match.
    """
    try:
        return [find_enclave(chosen, name)]
    except StateError:
        past = History(invocation.config.state_dir).find(name)
        if past is None or name not in (past.name, past.enclave_id):
            raise
        when = "" if past.ended is None else f" at {past.ended:%Y-%m-%d %H:%M:%S} UTC"
        invocation.screen.note(f"{past.name} has ended already{when}: {past.how}")
        return []
