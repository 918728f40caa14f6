"""``enclavectl setup``: make a Nitro host of this instance, step by step, each shown before it is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.consent import require_consent
from enclavectl.cli.counting import counted
from enclavectl.cli.host_facts import facts_of
from enclavectl.cli.invocation import begin, refuse_together
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.config.load import Config
from enclavectl.errors import UsageError
from enclavectl.host.changer import LiveChanger
from enclavectl.host.cpu_list import parse_cpu_list
from enclavectl.host.distro import detect_distro
from enclavectl.host.host import Host
from enclavectl.host.live import open_host
from enclavectl.host.reservation import Reservation
from enclavectl.host.setup import Setup, SetupRequest, require_device
from enclavectl.host.steps import Report, StepState, plan_steps, run_steps
from enclavectl.nitro_cli.environment import logs_dir
from enclavectl.nitro_cli.hostlock import host_lock
from enclavectl.progress import NoProgress

SETUP_SCHEMA = "enclavectl.setup/1"
EXIT_INCOMPLETE = 3


PoolMemory = Annotated[
    int | None, typer.Option("--memory", metavar="MIB", help="Kept for enclaves; default: as configured.")
]
PoolCpus = Annotated[
    int | None,
    typer.Option("--cpus", metavar="COUNT", help="vCPUs to keep for enclaves; default: as configured."),
]
CpuPool = Annotated[
    str | None, typer.Option("--cpu-pool", metavar="CPUS", help="Exactly these vCPUs, such as 2,3,6-9.")
]
EnclaveUser = Annotated[
    str | None,
    typer.Option("--user", metavar="USER", help="Who will use enclaves; default: you, also under sudo."),
]
WithoutDevice = Annotated[
    bool,
    typer.Option(
        "--without-device", help="Go on where no enclave can run, to build images or to make a template."
    ),
]
AtNextBoot = Annotated[
    bool, typer.Option("--at-next-boot", help="Do not restart the allocator now; reboot afterwards.")
]


def setup(
    memory: PoolMemory = None,
    cpus: PoolCpus = None,
    cpu_pool: CpuPool = None,
    user: EnclaveUser = None,
    at_next_boot: AtNextBoot = False,
    without_device: WithoutDevice = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    host_root: options.HostRoot = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Prepare this instance for enclaves, step by step.

    Installs what a Nitro host needs, lets you use it, and keeps memory and CPUs for enclaves. Each step is
    shown before it is done, and what is done already is left alone. Exit code 3 if a step failed or is left
    to you.

    Examples:
      enclavectl setup --dry-run                 what would be done
      enclavectl setup                           do it, after a question
      enclavectl setup --memory 4096 --cpus 2    keep 4 GiB and two vCPUs
    """
    refuse_together(**{"cpus": cpus, "cpu-pool": cpu_pool})
    invocation = begin(output, config, {"enclave.memory_mib": memory, "enclave.cpus": cpus})
    screen = invocation.screen
    screen.outlive_reader()
    host = open_host(host_root, os.environ)
    if not host.tree.is_live and not dry_run:
        raise UsageError(
            "setup: expected this machine, found --host-root",
            hint="enclavectl setup --dry-run says what it would do there",
        )
    chosen = _setup(host, invocation.config, _request(host, invocation.config, cpu_pool, user, at_next_boot))
    reports: Sequence[Report] = plan_steps(chosen.steps(), is_root=host.user.uid == 0)
    if not dry_run and not without_device:
        require_device(chosen.facts)
    if not dry_run and any(report.state is StepState.WOULD_DO for report in reports):
        reports = _apply(chosen, reports, screen, yes=yes)
    if screen.as_json:
        screen.result(_to_json(chosen, reports, dry_run=dry_run))
    else:
        _draw(screen, chosen, reports)
    failed = any(report.state is StepState.FAILED for report in reports)
    if failed or (not dry_run and any(report.is_missing for report in reports)):
        raise typer.Exit(EXIT_INCOMPLETE)


def _request(
    host: Host, config: Config, cpu_pool: str | None, user: str | None, at_next_boot: bool
) -> SetupRequest:
    try:
        pool = None if cpu_pool is None else parse_cpu_list(cpu_pool)
    except ValueError as exc:
        raise UsageError(f"--cpu-pool: {exc}") from exc
    reservation = Reservation(
        memory_mib=config.enclave.memory_mib,
        cpu_count=config.enclave.cpus if pool is None else None,
        cpu_pool=pool,
    )
    sudo_user = os.environ.get("SUDO_USER") if host.user.uid == 0 and host.tree.is_live else None
    name = user or sudo_user or host.user.name
    return SetupRequest(reservation=reservation, user=name, at_next_boot=at_next_boot)


def _setup(host: Host, config: Config, request: SetupRequest) -> Setup:
    def guard() -> AbstractContextManager[object]:
        folder = logs_dir(host.environ)
        # The launch lock: an enclave that boots while the pool changes would fail. Without the folder, no
        # launch is possible.
        return host_lock(folder, "launch of an enclave", NoProgress()) if folder.is_dir() else nullcontext()

    return Setup(facts_of(host, config), detect_distro(host.tree), request, guard)


def _apply(chosen: Setup, planned: Sequence[Report], screen: Screen, *, yes: bool) -> Sequence[Report]:
    host = chosen.host
    changes = [report for report in planned if report.state is StepState.WOULD_DO]
    if any(report.state is StepState.FAILED for report in planned):
        return planned  # a step cannot be planned: change nothing
    for report in changes:
        for line in report.commands or (report.detail,):
            screen.note(f"{report.id}: will run: {line}")
    require_consent(command="setup", yes=yes, what=counted(len(changes), "step"))
    changer = LiveChanger(uid=host.user.uid, environ=os.environ, may_ask=sys.stdin.isatty())
    return run_steps(chosen.steps(), changer, lambda report: screen.note(f"{report.id} ..."))


def _to_json(chosen: Setup, reports: Sequence[Report], *, dry_run: bool) -> dict[str, object]:
    outcome = chosen.outcome(reports)
    open_states = {StepState.FAILED, StepState.WOULD_DO}
    return {
        "schema": SETUP_SCHEMA,
        "dry_run": dry_run,
        "distribution": {"family": chosen.distro.family.value, "name": chosen.distro.name},
        "user": chosen.request.user,
        "allocator": chosen.request.reservation.to_json(),
        "steps": [report.to_json() for report in reports],
        "complete": not any(report.state in open_states or report.is_missing for report in reports),
        "login": {"needed": bool(outcome.login), "why": outcome.login or None},
        "reboot": {"needed": bool(outcome.reboot), "why": outcome.reboot or None},
    }


def _draw(screen: Screen, chosen: Setup, reports: Sequence[Report]) -> None:
    screen.facts([("system", chosen.distro.name), ("user", chosen.request.user)])
    for report in reports:
        screen.facts([(f"{report.state.value:9} {report.id:18}", f"{report.title}: {report.detail}")])
        lines = [f"$ {line}" for line in report.commands] + (report.diff.splitlines() if report.diff else [])
        if report.state.value != "already" and lines:
            screen.facts([("", line) for line in lines])
        if report.hint:
            screen.note(f"try: {report.hint}")
    outcome = chosen.outcome(reports)
    if outcome.login:
        screen.note(f"a new login is needed: {outcome.login}")
    if outcome.reboot:
        screen.note(f"a reboot is needed: {outcome.reboot}")
