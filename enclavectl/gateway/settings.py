"""What a gateway is started with, and the combinations that are refused because they would be unsafe."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from enclavectl.config.gateway import GatewayConfig
from enclavectl.errors import UsageError
from enclavectl.gateway.routing import Destination
from enclavectl.net.address import bracketed, is_loopback

# No label of a name is empty or longer than 63: Python's resolver raises UnicodeError for those.
_HOST_PORT = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63}){0,126}\.?))"
    r":([0-9]{1,5})",
    re.ASCII,
)
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?|[a-z-]+-extension://[a-z0-9-]+|null", re.ASCII)
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class HostPort:
    """An address to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The inputs of a gateway. ``tokens`` and ``announced`` are looked at again while it runs."""

    listen: HostPort
    tokens: Path
    limits: GatewayConfig
    destinations: tuple[Destination, ...] = ()
    announced: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    is_anonymous: bool = False
    is_plain_behind_proxy: bool = False
    origins: frozenset[str] = frozenset()
    trusted_proxies: tuple[Network, ...] = ()
    needs_proxy_header: bool = False
    logs_addresses: bool = False
    metrics: HostPort | None = None
    wait_s: float = 60.0

    def check(self, *, has_tokens: bool) -> None:
        """Refuse what would let everybody in, or would let everybody read, without saying so.

        Raises:
            UsageError: options that exclude each other, or an unsafe combination.
        """
        is_public = not is_loopback(self.listen.host) or self.is_plain_behind_proxy
        if (self.certificate is None) != (self.key is None):
            raise UsageError("expected --cert and --key together, found one", hint="give both files")
        if self.certificate is not None and self.is_plain_behind_proxy:
            raise UsageError("expected --cert or --plain-behind-proxy, found both", hint="leave one out")
        if self.client_ca is not None and self.certificate is None:
            raise UsageError("--client-ca: expected --cert and --key as well: client certificates need TLS")
        if is_public and self.certificate is None and not self.is_plain_behind_proxy:
            raise UsageError(
                f"--listen {self.listen}: expected TLS on an address that others reach",
                hint="give --cert and --key; behind a proxy that ends TLS say --plain-behind-proxy",
            )
        if is_public and not (has_tokens or self.client_ca is not None or self.is_anonymous):
            raise UsageError(
                f"--listen {self.listen}: expected to know who may connect: no token, no --client-ca",
                hint="enclavectl gateway token add NAME makes a token; --anonymous lets everybody in",
            )
        if self.needs_proxy_header and not self.trusted_proxies:
            raise UsageError("--proxy-protocol: expected --trusted-proxy as well", hint="name its network")
        if not self.destinations and self.announced is None:
            raise UsageError("expected an enclave, --to or --from, found none")


def parse_host_port(text: str, option: str) -> HostPort:
    """Read ``HOST:PORT``; IPv6 stands in brackets.

    Raises:
        UsageError: the text has another form.
    """
    match = _HOST_PORT.fullmatch(text)
    if match is None or not int(match[3]) < 65_536:
        raise UsageError(
            f"{option}: expected HOST:PORT, found {text!r:.100}", hint="such as 0.0.0.0:8443 or [::]:8443"
        )
    return HostPort(match[1] or match[2], int(match[3]))


def parse_network(text: str) -> Network:
    """Read a network such as 10.0.0.0/8.

    Raises:
        UsageError: the text has another form.
    """
    try:
        return ip_network(text)
    except ValueError as exc:
        raise UsageError(f"--trusted-proxy: expected a network such as 10.0.0.0/8 ({exc})") from None


def parse_origin(text: str) -> str:
    """Read an origin as browsers send it: scheme, host, and a port that is not the scheme's own.

    ``null`` is what a page sends that was opened from a file.

    Raises:
        UsageError: the text has another form.
    """
    if _ORIGIN.fullmatch(text) is None:
        raise UsageError(
            f"--origin: expected an origin, found {text!r:.100}",
            hint="such as https://portal.example.org, or null for a page opened from a file",
        )
    return text
