"""``enclavectl fleet status``: what the gateways of a fleet say of their enclaves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.deploy.kubernetes.gateways import GatewayStatus, find_gateways, read_gateway
from enclavectl.errors import StateError

STATUS_SCHEMA = "enclavectl.fleet-status/1"
# They answer within milliseconds; one that does not takes 5 s, and must not keep the others waiting.
_AT_ONCE = 32

Targets = Annotated[
    list[str],
    typer.Argument(metavar="HOST:PORT...", help="Metrics of gateways; a name leads to all of its addresses."),
]


def status(
    targets: Targets,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Show the releases, enclaves and load of a fleet.

    Reads the metrics of each gateway. Within a cluster the headless Service that render writes has all of
    them. Exit code 6 if no enclave is up.

    Examples:
      enclavectl fleet status gateway-metrics:9100  within the namespace
      enclavectl fleet status 127.0.0.1:9100        by kubectl port-forward
    """
    invocation = begin(output, config, {})
    screen = invocation.screen
    found = find_gateways(targets)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        gateways = list(pool.map(lambda one: read_gateway(*one), found))
    releases = _releases(gateways)
    if screen.as_json:
        screen.result(status_json(gateways))
    else:
        rows = [
            (
                one.address,
                enclave.name,
                enclave.release,
                "up" if enclave.is_up else "DOWN",
                str(enclave.sessions),
                str(enclave.in_flight),
            )
            for one in gateways
            for enclave in one.enclaves
        ]
        rows += [(one.address, "", "", one.error, "", "") for one in gateways if one.error is not None]
        screen.table(("GATEWAY", "ENCLAVE", "RELEASE", "STATE", "SESSIONS", "IN FLIGHT"), rows)
        for label, (count, up, in_flight) in releases.items():
            screen.facts([(f"release {label}", f"{up} of {count} enclaves up, {in_flight} in flight")])
    if not any(up for _, up, _ in releases.values()):
        hint = "kubectl get pods; docs/kubernetes.md"
        raise StateError("no enclave of these gateways is up", hint=hint, after_answer=True)


def status_json(gateways: Sequence[GatewayStatus]) -> dict[str, object]:
    """Return the object of the JSON output."""
    return {
        "schema": STATUS_SCHEMA,
        "gateways": [one.to_json() for one in gateways],
        "releases": [
            {"label": label, "enclaves": counts[0], "up": counts[1], "in_flight": counts[2]}
            for label, counts in _releases(gateways).items()
        ],
    }


def _releases(gateways: Sequence[GatewayStatus]) -> dict[str, tuple[int, int, int]]:
    found: dict[str, tuple[int, int, int]] = {}
    for gateway in gateways:
        for enclave in gateway.enclaves:
            count, up, in_flight = found.get(enclave.release, (0, 0, 0))
            found[enclave.release] = (count + 1, up + enclave.is_up, in_flight + enclave.in_flight)
    return dict(sorted(found.items()))
