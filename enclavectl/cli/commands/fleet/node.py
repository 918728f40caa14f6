"""``enclavectl fleet node``: what makes a cluster's nodes hold enclaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.artifacts.lock import read_lock
from enclavectl.cli import options
from enclavectl.cli.fleet_options import Cpus, NodeArch, Pages, Slots
from enclavectl.cli.fleet_request import memory_of
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.deploy.kubernetes.node import MARK, NodeKind, NodeRequest, node_files
from enclavectl.deploy.kubernetes.request import Arch, PageSize
from enclavectl.deploy.writing import write_marked

NODE_SCHEMA = "enclavectl.fleet-node/1"

LockOfFleet = Annotated[
    Path | None, typer.Argument(metavar="[LOCK]", help="The fleet's lock, for its size; else as configured.")
]
Kind = Annotated[NodeKind, typer.Option("--for", help="Who makes the nodes.")]
To = Annotated[
    Path | None, typer.Option("--to", metavar="DIR", help="Folder for the files; default: print them.")
]
Cluster = Annotated[str, typer.Option("--cluster", metavar="NAME", help="The cluster, in names and tags.")]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory", metavar="MIB", help="MiB of one enclave, in whole pages; default: as fleet render."
    ),
]


def node(
    lock: LockOfFleet = None,
    kind: Kind = NodeKind.AL2023,
    to: To = None,
    cluster: Cluster = "CLUSTER",
    slots: Slots = 4,
    memory: Memory = None,
    cpus: Cpus = None,
    pages: Pages = PageSize.GIB,
    arch: NodeArch = Arch.AMD64,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Write what makes a cluster's nodes hold enclaves.

    User data for Amazon Linux 2023 reserves memory and CPUs before the kubelet counts them; for Karpenter
    there are its objects too, and in each case the install of AWS's device plugin. Nothing is applied.

    Examples:
      enclavectl fleet node image.lock.json --cpus 2     sized for that lock
      enclavectl fleet node --for karpenter --to nodes   into a folder
    """
    invocation = begin(output, config, {"enclave.memory_mib": memory, "enclave.cpus": cpus})
    locks = [] if lock is None else [read_lock(lock)]
    request = NodeRequest(
        cluster=cluster,
        slots=slots,
        memory_mib=memory_of(invocation.config, locks, pages),
        cpus=invocation.config.enclave.cpus,
        pages=pages,
        arch=arch,
    )
    files = node_files(request, kind)
    if to is not None:
        write_marked(to, files, MARK)
    screen = invocation.screen
    if screen.as_json:
        found = [{"name": name, "text": text} for name, text in files.items()]
        screen.result({"schema": NODE_SCHEMA, "folder": None if to is None else str(to), "files": found})
        return
    if to is None:
        for name, text in files.items():
            typer.echo(f"# ==> {name}\n{text}")
    else:
        screen.facts((name, str(to)) for name in files)
    screen.note(
        f"a node of {request.least_cpus} vCPUs or more holds {slots} enclaves of {request.memory_mib} MiB "
        f"and {request.cpus} vCPUs; launch it with EnclaveOptions.Enabled=true"
    )
