"""``enclavectl fleet render``: manifests for Kubernetes from a lock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.artifacts.names import LOCK_NAME
from enclavectl.cli import options
from enclavectl.cli.fleet_request import FleetOptions, fleet_request
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.deploy.kubernetes.objects import fleet_files
from enclavectl.deploy.kubernetes.request import Arch, FleetRequest, PageSize, PodSecurity, ServiceKind
from enclavectl.deploy.kubernetes.seccomp import LOCALHOST_PROFILE, PROFILE_FILE
from enclavectl.deploy.kubernetes.writing import write_fleet

RENDER_SCHEMA = "enclavectl.fleet-render/1"

LockToRender = Annotated[
    Path, typer.Argument(metavar="[LOCK]", help="The lock of the release that the fleet runs.")
]
To = Annotated[
    Path, typer.Option("--to", metavar="DIR", help="Folder for the manifests, and for nothing else.")
]
Image = Annotated[
    str,
    typer.Option(
        "--image", metavar="IMAGE", help="The container image of the pods, by digest.", show_default=False
    ),
]
Previous = Annotated[
    Path | None,
    typer.Option(
        "--previous", metavar="LOCK", help="Keep this release beside it during a rollout.", show_default=False
    ),
]
PreviousImage = Annotated[
    str | None,
    typer.Option(
        "--previous-image", metavar="IMAGE", help="That release's container image.", show_default=False
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
        help="Pods of the previous release; default: as many.",
        min=1,
        show_default=False,
    ),
]
Most = Annotated[
    int | None,
    typer.Option(
        "--max", metavar="COUNT", help="Scale up to so many pods by load.", min=1, show_default=False
    ),
]
Nodes = Annotated[
    int | None,
    typer.Option(
        "--nodes",
        metavar="COUNT",
        help="Nodes there are, to check the count of pods.",
        min=1,
        show_default=False,
    ),
]
Slots = Annotated[int, typer.Option("--slots", metavar="COUNT", help="Enclaves of a node.")]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory", metavar="MIB", help="MiB of an enclave, in whole pages.", min=1, show_default=False
    ),
]
Cpus = Annotated[
    int | None,
    typer.Option(
        "--cpus", metavar="COUNT", help="vCPUs of an enclave; default: as configured.", show_default=False
    ),
]
Pages = Annotated[PageSize, typer.Option("--pages", help="Huge pages of the nodes.")]
NodeArch = Annotated[Arch, typer.Option("--arch", help="Processors of the nodes.")]
Namespace = Annotated[str, typer.Option("--namespace", metavar="NAME", help="Namespace of the fleet.")]
Security = Annotated[PodSecurity, typer.Option("--pod-security", help="Pod Security level of the namespace.")]
Service = Annotated[ServiceKind, typer.Option("--service", help="How clients reach the gateways.")]
MetricsFrom = Annotated[
    str, typer.Option("--metrics-from", metavar="NAMESPACE", help="Namespace that may read the metrics.")
]
Release = Annotated[
    str | None,
    typer.Option(
        "--release",
        metavar="SOURCE",
        help="Of the key of sealed weights: tls:HOST:PORT of their owner, or kms.",
        show_default=False,
    ),
]
TlsPin = Annotated[
    str | None,
    typer.Option(
        "--tls-pin",
        metavar="sha256:DIGEST",
        help="The owner's TLS key (SHA-256 of its SPKI), with --release tls:.",
        show_default=False,
    ),
]
UnsafeDebug = Annotated[
    bool, typer.Option("--unsafe-debug", help="Debug mode: nothing proves the code. Never with secrets.")
]


def render(
    lock: LockToRender = Path(LOCK_NAME),
    to: To = Path("k8s"),
    image: Image = "enclavectl-parent:latest",
    replicas: Replicas = 2,
    most: Most = None,
    nodes: Nodes = None,
    slots: Slots = 4,
    previous: Previous = None,
    previous_image: PreviousImage = None,
    previous_replicas: PreviousReplicas = None,
    memory: Memory = None,
    cpus: Cpus = None,
    pages: Pages = PageSize.GIB,
    arch: NodeArch = Arch.AMD64,
    namespace: Namespace = "enclavectl",
    pod_security: Security = PodSecurity.BASELINE,
    service: Service = ServiceKind.CLUSTER_IP,
    metrics_from: MetricsFrom = "monitoring",
    release: Release = None,
    tls_pin: TlsPin = None,
    unsafe_debug: UnsafeDebug = False,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Write the manifests of a fleet for Kubernetes.

    Each pod has one enclave and a gateway beside it. Sizes come from the lock by the rules of plan. The
    folder can be applied with kubectl apply -k; changes belong in an overlay beside it.

    Examples:
      enclavectl fleet render --image IMAGE@sha256:DIGEST  to the folder k8s
      enclavectl fleet render --replicas 8 --max 32        with an autoscaler
      enclavectl fleet render --service nlb                with load balancers
    """
    invocation = begin(output, config, {"enclave.cpus": cpus})
    given = FleetOptions(
        lock=lock,
        image=image,
        previous=previous,
        previous_image=previous_image,
        replicas=replicas,
        previous_replicas=previous_replicas,
        most=most,
        nodes=nodes,
        slots=slots,
        memory_mib=memory,
        pages=pages,
        arch=arch,
        namespace=namespace,
        pod_security=pod_security,
        service=service,
        metrics_from=metrics_from,
        unsafe_debug=unsafe_debug,
        release=release,
        tls_pin=tls_pin,
    )
    request = fleet_request(given, invocation.config)
    files = fleet_files(request)
    write_fleet(to, files)
    _show(invocation.screen, request, sorted(files), to)


def _warnings(request: FleetRequest) -> list[str]:
    found = [
        f"{release.image}: not pinned by a digest; what runs may change without a new release"
        for release in request.releases
        if not release.is_pinned
    ]
    if request.is_debug:
        found.append("DEBUG MODE: nothing proves the code of these enclaves. Send them no secrets.")
    if request.pod_security is PodSecurity.RESTRICTED:
        found.append(
            f"{PROFILE_FILE} belongs on every node, as /var/lib/kubelet/seccomp/{LOCALHOST_PROFILE}; "
            "enclavectl fleet node puts it there"
        )
    return found


def _show(screen: Screen, request: FleetRequest, names: list[str], folder: Path) -> None:
    pods = sum(release.replicas for release in request.releases)
    warnings = _warnings(request)
    if screen.as_json:
        screen.result(
            {
                "schema": RENDER_SCHEMA,
                "folder": str(folder),
                "files": names,
                "namespace": request.namespace,
                "releases": [
                    {
                        "label": release.label,
                        "image": release.image,
                        "is_pinned": release.is_pinned,
                        "replicas": release.replicas,
                        "memory_mib": release.ordinary_mib,
                    }
                    for release in request.releases
                ],
                "enclave": {
                    "memory_mib": request.pages_mib,
                    "cpus": request.cpus,
                    "pages": request.pages.resource,
                },
                "nodes": -(-pods // request.slots),
                "warnings": warnings,
            }
        )
        return
    for release in request.releases:
        screen.facts([(f"release {release.label}", f"{release.replicas} pods of {release.image}")])
    count = -(-pods // request.slots)
    nodes = f"{count} node{'s' if count > 1 else ''}"
    most = "" if request.most is None else f", up to {request.most} by load"
    screen.facts(
        [
            ("enclave", f"{request.pages_mib} MiB in {request.pages.resource}, {request.cpus} vCPUs"),
            ("pods", f"{pods}{most}; {nodes} of {request.slots} slots hold {pods}"),
            ("written", f"{len(names)} files to {folder}"),
        ]
    )
    for one in warnings:
        screen.note(one)
    screen.note(f"check them: enclavectl fleet check {folder}")
    screen.note(f"have them in force: kubectl apply -k {folder}; docs/kubernetes.md names the two secrets")
