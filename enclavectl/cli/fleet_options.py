"""The options of ``fleet render``, as a group: how many pods of what, where, and how they are reached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.artifacts.names import LOCK_NAME
from enclavectl.deploy.kubernetes.request import Arch, PageSize, PodSecurity, ServiceKind

LockToRender = Annotated[
    Path, typer.Argument(metavar="[LOCK]", help="The lock of the release that the fleet runs.")
]
Image = Annotated[
    str,
    typer.Option(
        "--image",
        metavar="IMAGE",
        help="The container image of the pods, by digest; default: enclavectl-parent:latest, for trials.",
        show_default=False,  # it is in the help
    ),
]
Previous = Annotated[
    Path | None,
    typer.Option(
        "--previous",
        metavar="LOCK",
        help="The lock of the release that runs now: keep it beside the new one during a rollout.",
    ),
]
PreviousImage = Annotated[
    str | None,
    typer.Option(
        "--previous-image", metavar="IMAGE", help="With --previous: the container image of its pods."
    ),
]
Replicas = Annotated[
    int, typer.Option("--replicas", metavar="COUNT", help="Pods, with an enclave each.", min=1)
]
PreviousReplicas = Annotated[
    int | None,
    typer.Option(
        "--previous-replicas",
        metavar="COUNT",
        help="With --previous: its pods; default: as many as --replicas.",
        min=1,
    ),
]
Most = Annotated[
    int | None,
    typer.Option(
        "--max", metavar="COUNT", help="Scale up to so many pods by load; default: no autoscaler.", min=1
    ),
]
Nodes = Annotated[
    int | None,
    typer.Option(
        "--nodes",
        metavar="COUNT",
        help="How many nodes there are, to check that the pods fit; default: not checked.",
        min=1,
    ),
]
Slots = Annotated[int, typer.Option("--slots", metavar="COUNT", help="How many enclaves a node may run.")]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        metavar="MIB",
        help="MiB of an enclave, in whole pages; default: as configured, else what the image needs.",
    ),
]
Cpus = Annotated[
    int | None, typer.Option("--cpus", metavar="COUNT", help="vCPUs of an enclave; default: as configured.")
]
Pages = Annotated[PageSize, typer.Option("--pages", help="Huge pages of the nodes.")]
NodeArch = Annotated[Arch, typer.Option("--arch", help="Processors of the nodes.")]
Namespace = Annotated[str, typer.Option("--namespace", metavar="NAME", help="Namespace of the fleet.")]
Security = Annotated[PodSecurity, typer.Option("--pod-security", help="Pod Security level of the namespace.")]
Service = Annotated[ServiceKind, typer.Option("--service", help="How clients reach the gateways.")]
MetricsFrom = Annotated[
    str, typer.Option("--metrics-from", metavar="NAMESPACE", help="Namespace that may read the metrics.")
]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="FILE.sealed",
        help="With the lock of a runtime: the sealed weights in the image of the pods.",
    ),
]
PreviousModel = Annotated[
    Path | None,
    typer.Option(
        "--previous-model",
        metavar="FILE.sealed",
        help="With --previous of a runtime: the sealed weights of its pods.",
    ),
]
Release = Annotated[
    str | None,
    typer.Option(
        "--release",
        metavar="SOURCE",
        help="Where the key of sealed weights comes from: tls:HOST:PORT of their owner, or kms.",
    ),
]
TlsPin = Annotated[
    str | None,
    typer.Option(
        "--tls-pin",
        metavar="sha256:DIGEST",
        help="The owner's TLS key (SHA-256 of its SPKI), with --release tls:.",
    ),
]
UnsafeDebug = Annotated[
    bool, typer.Option("--unsafe-debug", help="Debug mode: nothing proves the code. Never with secrets.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """The options as they were typed."""

    lock: LockToRender = Path(LOCK_NAME)
    image: Image = "enclavectl-parent:latest"
    replicas: Replicas = 2
    most: Most = None
    nodes: Nodes = None
    slots: Slots = 4
    previous: Previous = None
    previous_image: PreviousImage = None
    previous_replicas: PreviousReplicas = None
    model: Model = None
    previous_model: PreviousModel = None
    memory_mib: Memory = None
    pages: Pages = PageSize.GIB
    arch: NodeArch = Arch.AMD64
    namespace: Namespace = "enclavectl"
    pod_security: Security = PodSecurity.BASELINE
    service: Service = ServiceKind.CLUSTER_IP
    metrics_from: MetricsFrom = "monitoring"
    release: Release = None
    tls_pin: TlsPin = None
    unsafe_debug: UnsafeDebug = False
