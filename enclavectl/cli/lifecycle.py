"""``list``, ``describe`` and ``terminate``: enclaves that are there, on any backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.begin import Invocation, begin
from enclavectl.cli.options import OutputFormat

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, Enclave

Name = Annotated[str, typer.Argument(help="An enclave's name, id, or the start of one.", show_default=False)]
PolicyOutput = Annotated[
    Path | None,
    typer.Option(
        "--policy-file",
        help="Also write a policy that accepts exactly this enclave's image, for --policy elsewhere.",
        show_default=False,
    ),
]


def list_enclaves(
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """List the enclaves of this host: booting, running and dead; on backend nitro also other users'."""
    from enclavectl.backends.registry import choose_backend
    from enclavectl.cli.showing import show_enclaves

    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config, invocation.screen)
    show_enclaves(invocation.screen, chosen.name, chosen.enclaves())


def describe(
    name: Name,
    policy_file: PolicyOutput = None,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Show one enclave: state, model, the PCRs measured before its start, and those that it attests."""
    from enclavectl.backends.registry import choose_backend, find_enclave
    from enclavectl.cli.showing import attest, show_enclave

    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config, invocation.screen)
    enclave = find_enclave(chosen, name)
    if policy_file is not None:
        from enclavectl.attestation import render_policy
        from enclavectl.files import write_atomic

        policy = chosen.policy([enclave], allow_debug=False)
        write_atomic(policy_file, render_policy(policy).encode(), mode=0o644)
    out = chosen.outbound_address(invocation.config.enclave.port_out)
    show_enclave(invocation.screen, enclave, attested=attest(chosen, enclave), outbound=str(out))


def terminate(
    name: Annotated[
        str | None, typer.Argument(help="An enclave's name, id, or the start of one.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every enclave of this host.")] = False,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """End an enclave and remove what belonged to it; its console's last lines stay (enclavectl logs).

    One that has ended already is no error. With --all, each that may be ended is, whatever the others do.
    """
    from enclavectl.backends.registry import choose_backend
    from enclavectl.errors import EnclavectlError, UsageError

    if (name is None) is not every:
        raise UsageError("terminate: expected a name or --all", hint="enclavectl list shows the names")
    invocation = begin(output, config, {"backend": backend})
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
    if failures:
        raise failures[0]
    if invocation.screen.as_json:
        value = {"schema": "enclavectl.terminated/1", "backend": chosen.name, "terminated": ended}
        invocation.screen.result(value)
    else:
        for one in ended:
            typer.echo(f"terminated {one}")
        if not ended and every:
            invocation.screen.note("no enclave to terminate")


def _find_or_past(invocation: Invocation, chosen: Backend, name: str) -> list[Enclave]:
    """The enclave with that name; none, and a note, if one of that name or id has ended already.

    Raises:
        StateError: there is and was none, or several fit.
    """
    from enclavectl.backends.history import History
    from enclavectl.backends.registry import find_enclave
    from enclavectl.errors import StateError

    try:
        return [find_enclave(chosen, name)]
    except StateError:
        past = History(invocation.config.state_dir).find(name)
        if past is None or name not in (past.name, past.enclave_id):
            raise
        when = "" if past.ended is None else f" at {past.ended:%Y-%m-%d %H:%M:%S} UTC"
        invocation.screen.note(f"{past.name} has ended already{when}: {past.how}")
        return []
