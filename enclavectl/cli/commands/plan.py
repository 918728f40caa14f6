"""``enclavectl plan``: will the enclave fit on this host, and if not, what would."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.host.cpu_list import format_cpu_list
from enclavectl.host.cpu_usage import used_cpus
from enclavectl.host.enclaves import find_running
from enclavectl.host.host import Host
from enclavectl.host.live import open_host
from enclavectl.host.memory import mib_of
from enclavectl.host.plan import Plan, largest, make_plan, read_supply
from enclavectl.host.requirements import Demand, payload_memory_mib, read_eif

PLAN_SCHEMA = "enclavectl.plan/1"
EXIT_DOES_NOT_FIT = 3

ImageToPlan = Annotated[
    Path | None, typer.Argument(metavar="[EIF]", help="An image; else the configured size.")
]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        metavar="MIB",
        help="Exactly so many MiB; default: as configured, or more where the image needs it.",
    ),
]
Cpus = Annotated[int | None, typer.Option("--cpus", metavar="COUNT", help="vCPUs; default: as configured.")]


def plan(
    eif: ImageToPlan = None,
    memory: Memory = None,
    cpus: Cpus = None,
    host_root: options.HostRoot = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Say whether an enclave fits on this host.

    Says what it takes, what would be left, and the allocator's values for it; where it does not fit, the
    nearest size that would. Exit code 0 if it can be started now, 3 if not.

    Examples:
      enclavectl plan app.eif                  an image, with the configured size
      enclavectl plan --memory 2048 --cpus 2   a size
      enclavectl plan --host-root copy/        on a host whose files were copied
    """
    invocation = begin(output, config, {"enclave.memory_mib": memory, "enclave.cpus": cpus})
    wanted = Demand(
        memory_mib=invocation.config.enclave.memory_mib,
        cpus=invocation.config.enclave.cpus,
        eif=None if eif is None else read_eif(eif),
        is_exact=not invocation.config.sources["enclave.memory_mib"].is_default,
    )
    host = open_host(host_root, os.environ)
    found = make_plan(wanted, read_supply(host, used_cpus=_used_cpus(host, invocation.screen)))
    if invocation.screen.as_json:
        invocation.screen.result(_to_json(found))
    else:
        _draw(invocation.screen, found)
    if not found.fits:
        raise typer.Exit(EXIT_DOES_NOT_FIT)


def _used_cpus(host: Host, screen: Screen) -> frozenset[int] | None:
    # A recorded host has no nitro-cli to ask, and without a booted enclave no CPU is in use.
    if not host.tree.is_live or not find_running(host).sockets:
        return None
    return used_cpus(os.environ, screen)


def _to_json(plan: Plan) -> dict[str, object]:
    wanted, supply = plan.wanted, plan.supply
    free = supply.free_cpus
    taken = None if plan.pages is None else mib_of(plan.pages)
    most_mib, most_cpus = largest(supply, wanted)
    return {
        "schema": PLAN_SCHEMA,
        "fits": plan.fits,
        "eif": wanted.eif and wanted.eif.to_json(),
        "needs": {
            "memory_mib": wanted.needed_mib,
            "min_memory_mib": wanted.min_memory_mib or None,
            "cpus": wanted.cpus,
            "boot_bound_s": plan.boot_bound_s,
            "payload_memory_mib": payload_memory_mib(wanted.cpus),
        },
        "takes": {
            "memory_mib": taken,
            "pages": None if plan.pages is None else {f"{size} MiB": n for size, n in plan.pages.items()},
            "over_mib": None if taken is None else taken - wanted.needed_mib,
        },
        "host": {
            "memory_mib": supply.memory.total_mib,
            "cpus": len(supply.cpus.present),
            "threads_per_core": supply.cpus.threads_per_core,
            "node": supply.node.index,
            "pool": None if supply.cpus.pool is None else format_cpu_list(supply.cpus.pool),
            "reserved_mib": supply.node.reserved_mib,
            "page_limits": {f"{size} MiB": one.limit_mib for size, one in supply.limits.by_size.items()},
            "most_mib": most_mib,
            "most_cpus": most_cpus,
            "enclaves": len(supply.running.sockets),
        },
        "free": {"memory_mib": supply.node.free_mib, "cpus": None if free is None else len(free)},
        "after": {
            "memory_mib": None if taken is None else supply.node.free_mib - taken,
            "cpus": len(free) - wanted.cpus if free is not None and len(free) >= wanted.cpus else None,
        },
        "allocator": plan.allocator.to_json(),
        "problems": [problem.to_json() for problem in plan.problems],
        "notes": list(plan.notes),
    }


def _pictures(wanted: Demand) -> str:
    worst_mib = payload_memory_mib(wanted.cpus)
    if wanted.needed_mib >= worst_mib:
        return f"the payload of enclavectl takes {worst_mib} MiB at worst, which it has"
    return (
        f"the payload of enclavectl takes {worst_mib} MiB at worst; with {wanted.needed_mib} MiB "
        "several of the largest pictures at a time can fail (decoder-failed)"
    )


def _draw(screen: Screen, plan: Plan) -> None:
    wanted, supply = plan.wanted, plan.supply
    free_cpus = "?" if supply.free_cpus is None else str(len(supply.free_cpus))
    facts = [("fits", "yes" if plan.fits else "NO")]
    if wanted.eif is not None:
        least = f"{wanted.min_memory_mib} MiB (4 times its size)"
        facts.append(("image", f"{wanted.eif.size:,} bytes, so at least {least}"))
    facts.append(("needs", f"{wanted.needed_mib} MiB, {wanted.cpus} vCPUs"))
    if plan.pages is not None:
        mix = " + ".join(f"{count} x {size} MiB" for size, count in plan.pages.items())
        facts.append(("takes", f"{mib_of(plan.pages)} MiB of huge pages: {mix}"))
    pool = supply.cpus.pool
    kept = f"{supply.node.reserved_mib} MiB, vCPUs {format_cpu_list(pool) if pool else 'none'}"
    facts += [
        ("host", f"{supply.memory.total_mib} MiB, {len(supply.cpus.present)} vCPUs"),
        ("pool", f"NUMA node {supply.node.index}: {kept}"),
        ("free", f"{supply.node.free_mib} MiB, {free_cpus} vCPUs"),
    ]
    if supply.limits.by_size:
        facts.append(("cgroup", f"{mib_of(supply.usable)} MiB of them are for this process"))
    if plan.fits and plan.pages is not None:
        cpus = "?" if supply.free_cpus is None else str(len(supply.free_cpus) - wanted.cpus)
        facts.append(("free after", f"{supply.node.free_mib - mib_of(plan.pages)} MiB, {cpus} vCPUs"))
    facts += [
        ("allocator", ", ".join(plan.allocator.lines.values())),
        ("boot bound", f"{plan.boot_bound_s} s; nitro-cli gives up after that"),
        ("pictures", _pictures(wanted)),
    ]
    screen.facts(facts)
    for note in plan.notes:
        screen.note(note)
    for problem in plan.problems:
        screen.note(f"does not fit: {problem.message}")
        screen.note(f"  nearest that would: {problem.nearest}")
