"""``enclavectl fleet render``: manifests for Kubernetes from a lock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.fleet_options import Cpus, FleetOptions
from enclavectl.cli.fleet_request import fleet_request
from enclavectl.cli.invocation import begin
from enclavectl.cli.option_groups import spreads_groups
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.deploy.kubernetes.objects import fleet_files
from enclavectl.deploy.kubernetes.request import FleetRequest, PodSecurity
from enclavectl.deploy.kubernetes.seccomp import LOCALHOST_PROFILE, PROFILE_FILE
from enclavectl.deploy.kubernetes.writing import write_fleet

RENDER_SCHEMA = "enclavectl.fleet-render/1"

To = Annotated[
    Path, typer.Option("--to", metavar="DIR", help="Folder for the manifests, and for nothing else.")
]


@spreads_groups
def render(
    given: FleetOptions,
    to: To = Path("k8s"),
    cpus: Cpus = None,
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
    invocation = begin(output, config, {"enclave.memory_mib": given.memory_mib, "enclave.cpus": cpus})
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
        count = "1 pod" if release.replicas == 1 else f"{release.replicas} pods"
        screen.facts([(f"release {release.label}", f"{count} of {release.image}")])
    least = -(-pods // request.slots)
    nodes, hold = ("1 node", "holds") if least == 1 else (f"{least} nodes", "hold")
    slots = "1 slot" if request.slots == 1 else f"{request.slots} slots"
    most = "" if request.most is None else f", up to {request.most} by load"
    screen.facts(
        [
            ("enclave", f"{request.pages_mib} MiB in {request.pages.resource}, {request.cpus} vCPUs"),
            ("pods", f"{pods}{most}; {nodes} of {slots} {hold} {pods}"),
            ("written", f"{len(names)} files to {folder}"),
        ]
    )
    for one in warnings:
        screen.note(one)
    screen.note(f"check them: enclavectl fleet check {folder}")
    screen.note(f"have them in force: kubectl apply -k {folder}; docs/kubernetes.md names the two secrets")
