"""``run``, ``list``, ``describe``, ``console`` and ``terminate``: an enclave's life, on any backend."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.begin import BOOT_S, Trusting, begin, explain_boot_failure, spec_of, target_of
from enclavectl.cli.options import OutputFormat

if TYPE_CHECKING:
    from enclavectl.backends.base import Enclave
    from enclavectl.cli.screen import Screen

ENCLAVE_SCHEMA = "enclavectl.enclave/1"
Name = Annotated[str, typer.Argument(help="An enclave's name, id, or the start of one.", show_default=False)]


def run(
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it; default: its id.", show_default=False)
    ] = None,
    model: options.ModelName = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Debug mode: PCR0, 1 and 2 attest as zeros, so clients refuse it by default."
        ),
    ] = False,
    memory: Annotated[
        int | None, typer.Option("--memory", help="MiB that the enclave may use.", show_default=False)
    ] = None,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Start an enclave that stays, and wait until it has proved itself.

    Example: enclavectl run --name first && enclavectl diagnose --enclave first picture.jpg
    """
    from enclavectl.client import Client
    from enclavectl.enclaves import choose_backend

    flags = {"model": model, "backend": backend, "local.memory_mib": memory}
    invocation = begin(output, config, flags)
    chosen = choose_backend(invocation.config)
    if debug:
        invocation.screen.note("DEBUG MODE: nothing measures this enclave's code. Send it no secrets.")
    invocation.screen.step(f"starting a {chosen.name} enclave")
    with chosen.start(spec_of(invocation.config, name=name, debug=debug), detached=True) as running:
        enclave = running.enclave
        target = target_of(chosen, enclave, Trusting(policy=None, allow_debug=debug))
        with (
            explain_boot_failure(chosen, running),
            Client.connect(target.address, target.expectation, timeout_s=BOOT_S),
        ):
            pass  # its evidence is all that we wanted
    _show(invocation.screen, enclave)


def list_enclaves(
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """List the enclaves of this host, running and dead."""
    from enclavectl.enclaves import choose_backend

    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config)
    found = chosen.enclaves()
    if invocation.screen.as_json:
        invocation.screen.result(
            {
                "schema": "enclavectl.enclaves/1",
                "backend": chosen.name,
                "enclaves": [{"trust": str(one.trust), **one.to_json()} for one in found],
            }
        )
        return
    if not found:
        invocation.screen.note(f"no enclave on backend {chosen.name}; enclavectl run starts one")
        return
    rows = [
        (
            one.name,
            one.state,
            str(one.trust),
            one.model_id or "",
            "" if one.started is None else f"{one.started:%Y-%m-%d %H:%M:%S}",
            str(one.pid or ""),
        )
        for one in found
    ]
    invocation.screen.table(("NAME", "STATE", "TRUST", "MODEL", "STARTED (UTC)", "PID"), rows)


def describe(
    name: Name,
    policy_file: Annotated[
        Path | None,
        typer.Option(
            "--policy-file",
            help="Also write a policy that accepts exactly this enclave's image, for --policy elsewhere.",
            show_default=False,
        ),
    ] = None,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Show one enclave: its state, its model, and the PCRs that were measured when it was started."""
    from enclavectl.enclaves import choose_backend, find_enclave

    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config)
    enclave = find_enclave(chosen, name)
    if policy_file is not None:
        from enclavectl.attestation import render_policy
        from enclavectl.files import write_atomic

        policy = chosen.policy([enclave], allow_debug=False)
        write_atomic(policy_file, render_policy(policy).encode(), mode=0o644)
    _show(invocation.screen, enclave)


def console(
    name: Name,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the enclave ends, or Ctrl-C.")
    ] = False,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Print what an enclave wrote to its console: the newest megabyte at most.

    With --output json the text is in one object; --follow then ends with the enclave.
    """
    from enclavectl.cli.screen import visible
    from enclavectl.enclaves import choose_backend, find_enclave

    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config)
    enclave = find_enclave(chosen, name)
    chunks = chosen.console(enclave, follow=follow)
    if invocation.screen.as_json:
        text = b"".join(chunks).decode("utf-8", errors="replace")
        value = {"schema": "enclavectl.console/1", "trust": str(enclave.trust), "enclave": enclave.name}
        invocation.screen.result({**value, "text": text})
        return
    invocation.screen.note(f"console of {enclave.name} ({enclave.trust})")
    for chunk in chunks:
        # An enclave may print what it likes; it must not steer the operator's terminal.
        lines = chunk.decode("utf-8", errors="replace").split("\n")
        sys.stdout.write("\n".join(visible(line) for line in lines))
        sys.stdout.flush()


def terminate(
    name: Annotated[
        str | None, typer.Argument(help="An enclave's name, id, or the start of one.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every enclave of this host.")] = False,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """End an enclave and remove everything that belonged to it."""
    from enclavectl.enclaves import choose_backend, find_enclave
    from enclavectl.errors import UsageError

    if (name is None) is not every:
        raise UsageError("terminate: expected a name or --all", hint="enclavectl list shows the names")
    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config)
    ended = chosen.enclaves() if name is None else [find_enclave(chosen, name)]
    for enclave in ended:
        chosen.terminate(enclave)
    if invocation.screen.as_json:
        names = [enclave.name for enclave in ended]
        value = {"schema": "enclavectl.terminated/1", "backend": chosen.name, "terminated": names}
        invocation.screen.result(value)
    else:
        for enclave in ended:
            typer.echo(f"terminated {enclave.name}")
        if not ended:
            invocation.screen.note("no enclave to terminate")


def _show(screen: Screen, enclave: Enclave) -> None:
    if screen.as_json:
        value = {"schema": ENCLAVE_SCHEMA, "trust": str(enclave.trust), "backend": enclave.backend}
        screen.result({**value, "enclave": enclave.to_json()})
        return
    screen.trust(str(enclave.trust))
    screen.facts(
        [
            ("name", enclave.name),
            ("id", enclave.enclave_id),
            ("state", str(enclave.state)),
            ("backend", enclave.backend),
            ("model", f"{enclave.model_id}, SHA-256 {enclave.model_sha256}"),
            ("started", "" if enclave.started is None else enclave.started.isoformat(timespec="seconds")),
            ("address", str(enclave.address)),
            *_pcrs(enclave),
        ]
    )
    if enclave.debug:
        screen.note("in debug mode these PCRs are what was measured; the enclave attests zeros")


def _pcrs(enclave: Enclave) -> Iterator[tuple[str, str]]:
    if enclave.release is not None:
        yield from ((f"PCR{index}", value.hex()) for index, value in enclave.release.pcrs.items())
