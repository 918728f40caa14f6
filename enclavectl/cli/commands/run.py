"""``enclavectl run``: an enclave that stays, on any backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.backends.registry import choose_backend, resolve_backend
from enclavectl.cli import options, sealed_start
from enclavectl.cli.announcing import announce_running, check_announcing
from enclavectl.cli.closed_output import check_output, is_output_closed, reason_of, says_closed, says_full
from enclavectl.cli.console_text import follow_console
from enclavectl.cli.foreground import Foreground, remove_dead
from enclavectl.cli.invocation import Invocation, begin
from enclavectl.cli.network_options import NetworkFlags
from enclavectl.cli.option_groups import spreads_groups
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.signals import holding_interrupts_back
from enclavectl.config.choices import BackendChoice
from enclavectl.config.load import Profile
from enclavectl.errors import OutputClosed, OutputFull, UsageError
from enclavectl.targets.launch import LaunchRequest, launch_spec
from enclavectl.targets.target import target_of
from enclavectl.targets.verification import production_error, verification_options
from enclavectl.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclavectl.backends.base import Backend, RunningEnclave

ImageToRun = Annotated[
    Path | None,
    typer.Argument(
        metavar="[EIF]",
        help="Image to run, on backends nitro and qemu; default: enclave.eif in the current folder.",
    ),
]
NewName = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="What to call it; default: the image's name, or two words."),
]
DebugMode = Annotated[
    bool,
    typer.Option(
        "--debug", help="Debug mode: PCR0, 1 and 2 attest as zeros, so clients refuse it by default."
    ),
]
Attach = Annotated[
    bool, typer.Option("--attach", help="Show its console from the start; Ctrl-C only detaches.")
]
Memory = Annotated[
    int | None,
    typer.Option("--memory", metavar="MIB", help="MiB that the enclave may use; default: as configured."),
]
Cpus = Annotated[
    int | None,
    typer.Option("--cpus", metavar="COUNT", help="Virtual CPUs, on nitro and qemu; default: as configured."),
]
FixedCid = Annotated[
    int | None,
    typer.Option(
        "--cid", metavar="CID", help="Its address on vsock, on backends nitro and qemu; default: a free one."
    ),
]
Wait = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Wait until it has proved itself; without, until it is launched."),
]
Stay = Annotated[
    bool,
    typer.Option("--foreground", help="Stay with it until it ends, as the first process of a container."),
]
Drain = Annotated[
    float | None,
    typer.Option(
        "--drain",
        metavar="SECONDS",
        help="With --foreground: how long a gateway may take for last answers after SIGTERM; default: 40.",
        min=0,
        callback=options.finite,
    ),
]
BootWait = Annotated[
    int | None,
    typer.Option(
        "--boot-wait",
        metavar="SECONDS",
        help="How long to wait for another boot on this machine that has vsock port 9000 (E36); default: 0, "
        "with --foreground 600.",
        min=0,
        max=3600,
    ),
]
# Three boots of three minutes may come first, on a node with four slots.
_BOOT_WAIT_S = 600
# A gateway that drains takes new connections for 5 s, has 30 s for answers and 5 s for last words.
_DRAIN_S = 40.0

Release = Annotated[
    str | None,
    typer.Option(
        "--release",
        metavar="SOURCE",
        help="Where a sealed model's key comes from: tls:HOST:PORT of its owner, kms, or file:FILE.key for "
        "trials; default: the owner dials the enclave.",
    ),
]
OwnerCa = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        help="With --release tls: the CA (PEM) of the owner's certificate, in place of the system's.",
    ),
]
OwnerPin = Annotated[
    str | None,
    typer.Option(
        "--tls-pin",
        metavar="sha256:DIGEST",
        help="With --release tls: the only key that the owner's certificate may have (SHA-256 of its SPKI).",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFlags:
    """The options for the enclave's virtual machine."""

    memory: Memory = None
    cpus: Cpus = None
    cid: FixedCid = None

    def settings(self, backend: BackendChoice) -> dict[str, object]:
        """Return the values by configuration key, which depends on the backend.

        Raises:
            UsageError: an option of virtual machines was given for the local backend.
        """
        if backend.runs_machines:
            return {"enclave.memory_mib": self.memory, "enclave.cpus": self.cpus, "enclave.cid": self.cid}
        for flag, value in (("--cpus", self.cpus), ("--cid", self.cid)):
            if value is not None:
                raise UsageError(
                    f"{flag}: the local backend has no virtual machine",
                    hint="enclavectl run --backend nitro has one; leave it out here",
                )
        return {"local.memory_mib": self.memory}


@dataclass(frozen=True, slots=True, kw_only=True)
class StayFlags:
    """The options for how long the command stays, and what it waits for before the boot."""

    foreground: Stay = False
    drain: Drain = None
    boot_wait: BootWait = None

    @property
    def drain_s(self) -> float:
        """The seconds that a gateway may take for its last answers."""
        return _DRAIN_S if self.drain is None else self.drain

    @property
    def boot_wait_s(self) -> int:
        """The seconds to wait for another boot on this machine."""
        if self.boot_wait is None:
            return _BOOT_WAIT_S if self.foreground else 0
        return self.boot_wait


_ANY_MACHINE = MachineFlags()
_DETACHED = StayFlags()


@spreads_groups
def run(
    image: ImageToRun = None,
    name: NewName = None,
    model: options.ModelName = None,
    release: Release = None,
    ca: OwnerCa = None,
    tls_pin: OwnerPin = None,
    debug: DebugMode = False,
    attach: Attach = False,
    machine: MachineFlags = _ANY_MACHINE,
    wait: Wait = True,
    stay: StayFlags = _DETACHED,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Start an enclave that stays until it is terminated.

    Waits until the enclave has proved itself. Ctrl-C before that ends the enclave as soon as it can be ended.
    Backend nitro runs an image; qemu boots it in a virtual machine, and local starts a process in its place:
    both without any protection.
    With a sealed model (FILE.sealed) the enclave starts without weights. It serves once it has proved itself
    to the model's owner, or to KMS, and has the key; without that it ends.

    With --foreground the command stays. SIGTERM or Ctrl-C then drains and ends the enclave (exit code 0); an
    enclave that ends by itself ends the command with exit code 5.

    Examples:
      enclavectl run --name first              on this host's backend
      enclavectl run app.eif --memory 2048     an image, with 2 GiB
      enclavectl run app.eif --debug --attach  with its console, without attestation
      enclavectl run app.eif --foreground      in a container
      enclavectl run --model m.sealed          with a model whose owner dials
    """
    sealed = sealed_start.parse(model, release, NetworkFlags(ca=ca, tls_pin=tls_pin), wait=wait)
    flags: dict[str, object] = {"model": None if sealed else model, "backend": backend}
    flags |= machine.settings(resolve_backend(begin(output, config, flags).config))
    invocation = begin(output, config, flags)
    if attach:
        _check_attach(invocation, debug=debug)
    if debug:
        _check_debug(invocation)
    if stay.foreground:
        _check_foreground(attach=attach, wait=wait)
    elif stay.drain is not None:
        raise UsageError(
            "--drain: expected --foreground as well",
            hint="without it the command does not stay; enclavectl terminate ends the enclave",
        )
    request = LaunchRequest(
        name=name,
        debug=debug,
        image=image,
        sealed=None if sealed is None else sealed.model,
        boot_wait_s=stay.boot_wait_s,
    )
    _start(invocation, request, sealed, stay, waits=wait, attach=attach)


def _start(
    invocation: Invocation,
    request: LaunchRequest,
    sealed: sealed_start.SealedStart | None,
    stay: StayFlags,
    *,
    waits: bool,
    attach: bool,
) -> None:
    """Start the enclave, and show it, or stay with it."""
    if not attach:
        invocation.screen.outlive_reader()
    check_announcing(invocation)
    chosen = choose_backend(invocation.config, invocation.screen)
    invocation.screen.step(f"starting a {chosen.name} enclave")
    spec = launch_spec(invocation.config, request)
    if stay.foreground:
        remove_dead(chosen, request.name)
    stays = None
    with chosen.start(spec, detached=True) as running:
        if sealed is not None:
            sealed_start.bring(invocation, chosen, running, sealed)
        attested = _prove(invocation, chosen, running) if waits else None
        if stay.foreground:
            stays = Foreground(invocation=invocation, backend=chosen, running=running, drain_s=stay.drain_s)
            stays.stay(lambda: _show(invocation, chosen, running, attested))
    if stays is not None:
        stays.end()
        return
    # From here on the enclave stays: an interrupted command still says that it runs, and where.
    with _saying_that_it_goes_on(running.enclave.name):
        with holding_interrupts_back():
            announce_running(invocation, chosen)
            _show(invocation, chosen, running, attested)
        if attach:
            follow_console(invocation.screen, chosen, running.enclave)


@contextmanager
def _saying_that_it_goes_on(name: str) -> Iterator[None]:
    """Say that the enclave ``name`` runs where standard output could not."""
    goes_on, hint = f"{name} goes on", f"enclavectl terminate {name} ends it"
    try:
        yield
    except OSError as exc:
        if says_full(exc):
            raise OutputFull(reason_of(exc), goes_on, hint=hint) from exc
        if not (says_closed(exc) and is_output_closed()):
            raise
        raise OutputClosed(f"standard output was closed; {goes_on}", hint=hint, after_answer=True) from exc
    check_output(goes_on, hint=hint)


def _show(
    invocation: Invocation,
    chosen: Backend,
    running: RunningEnclave,
    attested: Mapping[str, object] | None,
) -> None:
    from enclavectl.cli.enclave_view import show_enclave  # noqa: PLC0415 - loaded while it boots

    enclave = running.enclave
    show_enclave(invocation, chosen, enclave, attested)
    if enclave.debug and enclave.trust is not Trust.EMULATED:
        invocation.screen.note(f"{enclave.name} runs in DEBUG MODE: send it no secrets")


def _check_debug(invocation: Invocation) -> None:
    if invocation.config.profile is Profile.PRODUCTION:
        raise production_error("--debug")
    if resolve_backend(invocation.config) is BackendChoice.QEMU:
        invocation.screen.note("QEMU has no debug mode: its console can always be read, its PCRs are real")
        return
    invocation.screen.note("DEBUG MODE: nothing measures this enclave's code. Send it no secrets.")


def _check_foreground(*, attach: bool, wait: bool) -> None:
    if attach or not wait:
        other = "--attach" if attach else "--no-wait"
        raise UsageError(
            f"--foreground: expected no {other} beside it",
            hint="it waits for the proof, and announces the enclave only then; enclavectl console shows more",
        )


def _check_attach(invocation: Invocation, *, debug: bool) -> None:
    if invocation.screen.as_json:
        raise UsageError("--attach: a console is no JSON", hint="leave --output json out")
    if resolve_backend(invocation.config) is BackendChoice.NITRO and not debug:
        # nitro-cli would turn on debug mode by itself, which turns off attestation.
        raise UsageError(
            "--attach: expected --debug as well: only debug mode has a console",
            hint="leave --attach out: a console and attestation exclude each other",
        )


def _prove(invocation: Invocation, chosen: Backend, running: RunningEnclave) -> Mapping[str, object]:
    """Verify the enclave and return its attested facts; a verified enclave is ready."""
    # What a session needs takes as long to load as a local enclave to boot: load it now.
    from enclavectl.cli.enclave_view import attested_json  # noqa: PLC0415 - see above
    from enclavectl.targets.session import BOOT_S, explain_boot_failure, open_session  # noqa: PLC0415 - see above

    verification = verification_options(invocation.config, allow_debug=running.enclave.debug)
    # The configured policy is for clients; this check compares the enclave with the image that we started.
    target = target_of(chosen, running.enclave, replace(verification, policy=None), running)
    with (
        explain_boot_failure(chosen, running),
        open_session(target, invocation.screen, timeout_s=BOOT_S) as client,
    ):
        attested = attested_json(client.enclave.document)
    if (warning := running.warning()) is not None:
        invocation.screen.note(warning)
    return attested
