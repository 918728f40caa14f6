"""``enclavectl gateway``: the relay between the network and enclaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.backends.registry import choose_backend, find_enclave, require_running
from enclavectl.cli import options
from enclavectl.cli.announcing import destination_of
from enclavectl.cli.completion import enclave_names
from enclavectl.cli.invocation import Invocation, begin
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.errors import HostError, StateError
from enclavectl.files import require_private_dir
from enclavectl.gateway.routing import Destination, parse_destination
from enclavectl.gateway.running import run_gateway
from enclavectl.gateway.settings import GatewaySettings, parse_host_port, parse_network, parse_origin

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ENCLAVE...]",
        help="Running enclaves of this host; default: all, unless --to or --from is given.",
        autocompletion=enclave_names,
    ),
]
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="RELEASE@ADDRESS",
        help="An enclave by address, with its release's label; may be repeated.",
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="DIR",
        help="Folder in which run announces enclaves (gateway.announce); it is watched.",
    ),
]
Listen = Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where clients connect.")]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--cert", metavar="FILE", help="Certificate chain for TLS (PEM); read again when it changes."
    ),
]
Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The certificate's key (PEM).")]
ClientCa = Annotated[
    Path | None,
    typer.Option("--client-ca", metavar="FILE", help="Let in who has a certificate of this CA (PEM)."),
]
Tokens = Annotated[
    Path | None,
    typer.Option(
        "--tokens", metavar="FILE", help="The tokens' file; default: gateway/tokens.json in the state folder."
    ),
]
Anonymous = Annotated[bool, typer.Option("--anonymous", help="Let in who has no token and no certificate.")]
Plain = Annotated[
    bool, typer.Option("--plain-behind-proxy", help="No TLS here: a proxy in front of this gateway ends it.")
]
Origins = Annotated[
    list[str] | None,
    typer.Option("--origin", metavar="ORIGIN", help="Let pages of this origin connect; may be repeated."),
]
Proxies = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy",
        metavar="NETWORK",
        help="Take clients' addresses from proxies of this network; may be repeated.",
    ),
]
ProxyProtocol = Annotated[
    bool, typer.Option("--proxy-protocol", help="Demand PROXY protocol v2 of each connection.")
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        help="How long an enclave may take to answer.",
        min=0,
        callback=options.finite,
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Serve /metrics there, to whoever can connect; needs enclavectl[gateway].",
    ),
]
LogAddresses = Annotated[
    bool, typer.Option("--log-addresses", help="Write clients' addresses into the log as well.")
]


def gateway(
    names: Names = None,
    to: To = None,
    announced: From = None,
    listen: Listen = "127.0.0.1:8443",
    certificate: Certificate = None,
    key: Key = None,
    client_ca: ClientCa = None,
    tokens: Tokens = None,
    anonymous: Anonymous = False,
    plain_behind_proxy: Plain = False,
    origin: Origins = None,
    trusted_proxy: Proxies = None,
    proxy_protocol: ProxyProtocol = False,
    wait: Wait = 60.0,
    metrics: Metrics = None,
    log_addresses: LogAddresses = False,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
) -> None:
    """Relay between the network and enclaves, which it cannot read.

    Clients connect by WebSocket or by frames over TLS, and verify the enclave themselves. The gateway bounds
    what they may take, counts, and drains on SIGTERM. It writes one JSON line a session. The settings below
    gateway in the configuration are its bounds.

    Exit codes: 0 drained, 2 settings, 3 cannot listen, 6 no enclave answered within --wait.

    Examples:
      enclavectl gateway                                             locally
      enclavectl gateway --to skin-1@vsock:16:5005                   by address
      enclavectl gateway --listen [::]:8443 --cert c.pem --key k.pem  for others
      enclavectl gateway token add hospital                          a token
    """
    invocation = begin(OutputFormat.JSON, config, {"backend": backend})
    settings = GatewaySettings(
        listen=parse_host_port(listen, "--listen"),
        destinations=_destinations(invocation, names or (), to or (), has_folder=announced is not None),
        announced=announced,
        tokens=tokens or default_tokens(invocation),
        certificate=certificate,
        key=key,
        client_ca=client_ca,
        is_anonymous=anonymous,
        is_plain_behind_proxy=plain_behind_proxy,
        origins=frozenset(map(parse_origin, origin or ())),
        trusted_proxies=tuple(map(parse_network, trusted_proxy or ())),
        needs_proxy_header=proxy_protocol,
        logs_addresses=log_addresses,
        metrics=None if metrics is None else parse_host_port(metrics, "--metrics"),
        wait_s=wait,
        limits=invocation.config.gateway,
    )
    _serve(invocation.screen, settings)


def _serve(screen: Screen, settings: GatewaySettings) -> None:
    if settings.logs_addresses:
        screen.note("--log-addresses: the log has personal data; leave it out once the incident is over")

    def listening(port: int) -> None:
        screen.note(f"listening on {settings.listen.host} port {port}; SIGTERM or Ctrl-C drains")

    try:
        run_gateway(settings, record=screen.line, note=screen.note, listening=listening)
    except ImportError as exc:
        raise HostError(
            "--metrics: the library prometheus-client is not installed",
            hint="pip install 'enclavectl[gateway]'",
        ) from exc


def default_tokens(invocation: Invocation) -> Path:
    """Return the path of this user's tokens.

    Raises:
        HostError: somebody else may have put something in their folder.
    """
    folder = invocation.config.state_dir / "gateway"
    require_private_dir(folder)
    return folder / "tokens.json"


def _destinations(
    invocation: Invocation, names: Sequence[str], to: Sequence[str], *, has_folder: bool
) -> tuple[Destination, ...]:
    """Return the enclaves that were named, or all that run here if nothing else was said.

    Raises:
        StateError: one does not run, or none does.
        UsageError: an address has another form.
    """
    given = [parse_destination(text) for text in to]
    if not names and (given or has_folder):
        return tuple(given)
    backend = choose_backend(invocation.config, invocation.screen)
    if names:
        enclaves = [require_running(find_enclave(backend, name)) for name in names]
    else:
        enclaves = [enclave for enclave in backend.enclaves() if not enclave.is_owned]
    if not enclaves:
        raise StateError("no enclave is running", hint="enclavectl run starts one; --to names an address")
    return (*given, *map(destination_of, enclaves))
