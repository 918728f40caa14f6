"""Addresses of enclaves: on this host (Unix sockets, vsock), or behind a gateway somewhere on the network.

``enclavectl.net.transport``, which opens sockets, is separate because most commands only show addresses.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from enclavectl.errors import UsageError

# What the gateway serves; a release's label may follow: /v1/RELEASE.
DEFAULT_PATH = "/v1"
_FORMS = (
    "wss://HOST[:PORT][/PATH], tls:HOST:PORT, unix:PATH, vsock:CID:PORT, hybrid:PATH:PORT, or on this machine"
    " ws://HOST[:PORT][/PATH] and tcp:HOST:PORT"
)
# Names of RFC 1123; the form with brackets is an IPv6 address.
_HOST = r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = r"(?P<port>[0-9]{1,5})"
# Of RFC 3986's path without percent signs, so that a path has one spelling. No query: proxies log it.
_PATH = r"(?P<path>/[A-Za-z0-9._~/-]{0,255})?"
_WEBSOCKET = re.compile(rf"(?P<scheme>wss?)://{_HOST}(?::{_PORT})?{_PATH}")
_STREAM = re.compile(rf"(?P<scheme>tls|tcp):{_HOST}:{_PORT}")
# What stands before the host where people write their names and passwords.
_USER = re.compile(r"([a-z]+:(?://)?)[^/]*@")
_NETWORK = re.compile(r"(?:wss?|tls|tcp):")
_QUERY = re.compile(r"\?.*", re.DOTALL)
_WEBSOCKET_PORTS = {"wss": 443, "ws": 80}


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A stream socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class VsockAddress:
    """An enclave's CID and port; on a parent instance enclaves have CIDs from 4."""

    cid: int
    port: int

    def __str__(self) -> str:
        return f"vsock:{self.cid}:{self.port}"


@dataclass(frozen=True, slots=True)
class HybridVsockAddress:
    """A guest's port behind the Unix socket of its virtual machine monitor.

    https://github.com/firecracker-microvm/firecracker/blob/main/docs/vsock.md: the host writes ``CONNECT
    <port>`` and a line feed, reads ``OK <host port>``, and from there on has the guest's stream.
    """

    path: Path
    port: int

    def __str__(self) -> str:
        return f"hybrid:{self.path}:{self.port}"


@dataclass(frozen=True, slots=True)
class StreamAddress:
    """A gateway that takes the protocol's frames over TLS, or without it on this machine.

    ``host`` has no brackets, also if it is an IPv6 address.
    """

    host: str
    port: int
    is_secure: bool

    def __str__(self) -> str:
        return f"{'tls' if self.is_secure else 'tcp'}:{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class WebSocketAddress:
    """A gateway that takes the protocol's frames in WebSocket messages.

    ``host`` has no brackets, also if it is an IPv6 address.
    """

    host: str
    port: int
    path: str
    is_secure: bool

    def __str__(self) -> str:
        scheme = "wss" if self.is_secure else "ws"
        port = "" if self.port == _WEBSOCKET_PORTS[scheme] else f":{self.port}"
        return f"{scheme}://{bracketed(self.host)}{port}{self.path}"


HostAddress = UnixAddress | VsockAddress | HybridVsockAddress
"""An address on the enclave's own host, which every backend gives its enclaves."""
NetworkAddress = StreamAddress | WebSocketAddress
"""An address of a gateway."""
Address = HostAddress | NetworkAddress


def parse_address(text: str) -> Address:
    """Read an address in any of the forms that the error below lists.

    Raises:
        UsageError: the text has none of these forms, a number is out of range, or it names another machine
            without TLS.
    """
    if text.startswith("unix:") and len(text) > 5 and "\0" not in text:
        return UnixAddress(Path(text[5:]))
    match = re.fullmatch(r"vsock:([0-9]{1,10}):([0-9]{1,10})", text)
    if match is not None:
        cid, port = int(match[1]), int(match[2])
        if cid < 2**32 and port < 2**32:
            return VsockAddress(cid, port)
    match = re.fullmatch(r"hybrid:([^\0]+):([0-9]{1,10})", text, re.DOTALL)
    if match is not None and int(match[2]) < 2**32:
        return HybridVsockAddress(Path(match[1]), int(match[2]))
    if (network := _parse_network(text)) is not None:
        return network
    # A secret in the address is not shown again.
    shown = _QUERY.sub("?...", _USER.sub(r"\1...@", text))
    raise UsageError(f"address: expected {_FORMS}, found {shown!r:.200}", hint=_hint(text))


def _hint(text: str) -> str:
    if _USER.match(text):
        return "an address has no user or password: --token-file names the file with the secret"
    if "?" in text and _NETWORK.match(text):
        return "an address has no query: --token-file names the file with the token"
    if text.startswith(("http://", "https://")):
        return "the address of a gateway begins with wss://"
    port = re.match(r"(?:wss?|tls|tcp):.*?:([0-9]+)(?:/|$)", text)
    if port is not None and not 1 <= int(port[1][:9]) <= 65535:
        return f"a port is a number from 1 to 65535, not {port[1]:.20}"
    return "for example wss://gateway.example/v1" if _NETWORK.match(text) else "for example vsock:16:5005"


def parse_host_address(text: str) -> HostAddress:
    """Read an address of this host.

    Raises:
        UsageError: it has none of the forms, or is a gateway's.
    """
    address = parse_address(text)
    if isinstance(address, StreamAddress | WebSocketAddress):
        raise UsageError(
            f"address: expected unix:PATH, vsock:CID:PORT or hybrid:PATH:PORT, found {address}",
            hint="an enclave listens on its own host; what listens on a network is a gateway",
        )
    return address


def is_network(address: Address) -> TypeGuard[NetworkAddress]:
    """Return whether an address is a gateway's."""
    return isinstance(address, StreamAddress | WebSocketAddress)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name alone: localhost, or an address of the loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def bracketed(host: str) -> str:
    """Return a host as it stands before ``:PORT``: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _parse_network(text: str) -> NetworkAddress | None:
    match = _WEBSOCKET.fullmatch(text) or _STREAM.fullmatch(text)
    if match is None:
        return None
    scheme, host = match["scheme"], match["host"].lower()
    if host.startswith("["):
        host = host[1:-1]
        if not _is_ipv6(host):
            return None
    port = _WEBSOCKET_PORTS[scheme] if match["port"] is None else int(match["port"])
    if not 1 <= port <= 65535:
        return None
    is_secure = scheme in {"wss", "tls"}
    if not is_secure and not is_loopback(host):
        raise UsageError(
            f"address: {scheme}: is without TLS, so for this machine only: expected localhost or 127.0.0.1,"
            f" found {host}",
            hint=f"use {'wss://' if scheme == 'ws' else 'tls:'}, or a tunnel such as ssh -L",
        )
    if scheme in _WEBSOCKET_PORTS:
        return WebSocketAddress(host, port, match["path"] or DEFAULT_PATH, is_secure)
    return StreamAddress(host, port, is_secure)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
