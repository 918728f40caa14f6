"""``run``, ``list``, ``describe`` and ``terminate``: an enclave's life, on any backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.begin import Invocation, begin
from enclavectl.cli.options import OutputFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclavectl.backends.base import Backend, Enclave, RunningEnclave
    from enclavectl.backends.choice import BackendChoice

Name = Annotated[str, typer.Argument(help="An enclave's name, id, or the start of one.", show_default=False)]


def run(
    image: Annotated[
        Path | None,
        typer.Argument(
            metavar="[EIF]",
            help="Image to run, on backend nitro; default: enclave.eif in the current folder.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="What to call it; default: the image's name, or its id.", show_default=False
        ),
    ] = None,
    model: options.ModelName = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Debug mode: PCR0, 1 and 2 attest as zeros, so clients refuse it by default."
        ),
    ] = False,
    attach: Annotated[
        bool, typer.Option("--attach", help="Show its console from the start; Ctrl-C only detaches.")
    ] = False,
    memory: Annotated[
        int | None, typer.Option("--memory", help="MiB that the enclave may use.", show_default=False)
    ] = None,
    cpus: Annotated[
        int | None, typer.Option("--cpus", help="Virtual CPUs, on backend nitro.", show_default=False)
    ] = None,
    cid: Annotated[
        int | None,
        typer.Option(
            "--cid", help="Its address on vsock, on backend nitro; default: a free one.", show_default=False
        ),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait", help="Wait until it has proved itself; without, until it is launched."
        ),
    ] = True,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Start an enclave that stays, and wait until it has proved itself.

    Ctrl-C before that ends the enclave as soon as it can be ended.

    Example: enclavectl run --name first && enclavectl diagnose --enclave first picture.jpg
    """
    from enclavectl.cli.showing import show_enclave
    from enclavectl.cli.targets import Wanted, spec_of
    from enclavectl.enclaves import choose_backend

    invocation = _begin_run(output, config, {"model": model, "backend": backend}, memory, cpus, cid)
    if attach:
        _check_attach(invocation, debug=debug)
    if debug:
        _check_debug(invocation)
    chosen = choose_backend(invocation.config, invocation.screen)
    invocation.screen.step(f"starting a {chosen.name} enclave")
    spec = spec_of(invocation.config, Wanted(name=name, debug=debug, image=image))
    with chosen.start(spec, detached=True) as running:
        attested = _prove(invocation, chosen, running) if wait else None
    enclave = running.enclave
    out = chosen.outbound_address(invocation.config.enclave.port_out)
    show_enclave(invocation.screen, enclave, attested=attested, outbound=str(out))
    if debug:
        invocation.screen.note(f"{enclave.name} runs in DEBUG MODE: send it no secrets")
    if attach:
        from enclavectl.cli.past import follow_console

        follow_console(invocation.screen, chosen, enclave)


def list_enclaves(
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """List the enclaves of this host: booting, running and dead; on backend nitro also other users'."""
    from enclavectl.cli.showing import show_enclaves
    from enclavectl.enclaves import choose_backend

    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config, invocation.screen)
    show_enclaves(invocation.screen, chosen.name, chosen.enclaves())


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
    """Show one enclave: state, model, the PCRs measured before its start, and those that it attests."""
    from enclavectl.cli.showing import attest, show_enclave
    from enclavectl.enclaves import choose_backend, find_enclave

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
    from enclavectl.enclaves import choose_backend
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


def _begin_run(
    output: OutputFormat,
    config: Path | None,
    flags: Mapping[str, object],
    memory: int | None,
    cpus: int | None,
    cid: int | None,
) -> Invocation:
    """The invocation with the machine's flags, whose keys depend on the backend.

    Raises:
        UsageError: the configuration cannot be used, or the local backend was given a virtual machine's.
    """
    from enclavectl.backends.choice import BackendChoice
    from enclavectl.enclaves import resolve_backend
    from enclavectl.errors import UsageError

    first = begin(output, config, flags)
    chosen: BackendChoice = resolve_backend(first.config)
    if chosen is BackendChoice.LOCAL:
        for flag, value in (("--cpus", cpus), ("--cid", cid)):
            if value is not None:
                raise UsageError(
                    f"{flag}: the local backend has no virtual machine",
                    hint="leave it out, or --backend nitro",
                )
        return begin(output, config, {**flags, "local.memory_mib": memory})
    machine = {"enclave.memory_mib": memory, "enclave.cpus": cpus, "enclave.cid": cid}
    return begin(output, config, {**flags, **machine})


def _check_debug(invocation: Invocation) -> None:
    from enclavectl.cli.targets import production_error
    from enclavectl.config import Profile

    if invocation.config.profile is Profile.PRODUCTION:
        raise production_error("--debug")
    invocation.screen.note("DEBUG MODE: nothing measures this enclave's code. Send it no secrets.")


def _check_attach(invocation: Invocation, *, debug: bool) -> None:
    from enclavectl.backends.choice import BackendChoice
    from enclavectl.enclaves import resolve_backend
    from enclavectl.errors import UsageError

    if invocation.screen.as_json:
        raise UsageError("--attach: a console is no JSON", hint="leave --output json out")
    if resolve_backend(invocation.config) is not BackendChoice.LOCAL and not debug:
        # nitro-cli would turn debug mode on by itself, and attestation off.
        raise UsageError(
            "--attach: expected --debug as well: only debug mode has a console",
            hint="leave --attach out: a console and attestation exclude each other",
        )


def _prove(invocation: Invocation, chosen: Backend, running: RunningEnclave) -> Mapping[str, object]:
    """What the enclave attests, which is the sign that it is ready."""
    from dataclasses import replace

    from enclavectl.cli.showing import attested_json
    from enclavectl.cli.targets import (
        BOOT_S,
        explain_boot_failure,
        open_session,
        target_of,
        trusting_of,
    )

    trusting = trusting_of(invocation.config, allow_debug=running.enclave.debug)
    # The policy of the configuration is for clients; here the question is whether it is what we started.
    target = target_of(chosen, running.enclave, replace(trusting, policy=None), running)
    with (
        explain_boot_failure(chosen, running),
        open_session(target, invocation.screen, timeout_s=BOOT_S) as client,
    ):
        return attested_json(client.enclave.document)


def _find_or_past(invocation: Invocation, chosen: Backend, name: str) -> list[Enclave]:
    """The enclave with that name; none, and a note, if one of that name or id has ended already.

    Raises:
        StateError: there is and was none, or several fit.
    """
    from enclavectl.enclaves import find_enclave
    from enclavectl.errors import StateError
    from enclavectl.history import History

    try:
        return [find_enclave(chosen, name)]
    except StateError:
        past = History(invocation.config.state_dir).find(name)
        if past is None or name not in (past.name, past.enclave_id):
            raise
        when = "" if past.ended is None else f" at {past.ended:%Y-%m-%d %H:%M:%S} UTC"
        invocation.screen.note(f"{past.name} has ended already{when}: {past.how}")
        return []
