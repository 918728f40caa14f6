"""Who a peer is: its address behind trusted proxies, and the name in its certificate. No I/O."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from enclavectl.gateway.admission import ANONYMOUS, Identity, parse_ip
from enclavectl.gateway.settings import Network
from enclavectl.net.carriage import WireError

# https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, 2.2
_PROXY_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_HEADER_BYTES = 16
# Addresses of IPv6 take 36 bytes; the rest is for vendors' fields, such as AWS's of 25.
MAX_PROXY_BYTES = 536
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:/-]{0,99}", re.ASCII)


def is_trusted(address: str, proxies: Sequence[Network]) -> bool:
    """Return whether an address is one of these proxies'."""
    found = parse_ip(address)
    return found is not None and any(found in network for network in proxies)


def forwarded_address(peer: str, forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """Return the client's address: the last of ``X-Forwarded-For`` that no trusted proxy has.

    What stands before it was written by who knows whom. A peer that is no trusted proxy is the client.
    """
    hops = [hop.strip() for line in forwarded for hop in line.split(",")]
    address = peer
    while is_trusted(address, proxies) and hops:
        hop = hops.pop()
        try:
            ip_address(hop)
        except ValueError:
            return address
        address = hop
    return address


def proxy_header_length(head: bytes) -> int:
    """Return how many bytes follow the first 16 of a PROXY protocol header, version 2.

    Raises:
        WireError: it is none, or longer than we take.
    """
    if len(head) != PROXY_HEADER_BYTES or not head.startswith(_PROXY_SIGNATURE) or head[12] >> 4 != 2:
        raise WireError("expected a header of PROXY protocol version 2")
    length = int.from_bytes(head[14:16], "big")
    if length > MAX_PROXY_BYTES:
        raise WireError(f"a PROXY header of {length} bytes is not acceptable here")
    return length


def proxy_source(head: bytes, rest: bytes) -> str | None:
    """Return the client's address in a PROXY header; None for a proxy's own connection (LOCAL).

    Raises:
        WireError: it has no address of TCP.
    """
    command, family = head[12] & 0x0F, head[13]
    if command == 0:
        return None
    if command == 1 and family == 0x11 and len(rest) >= 12:
        return str(IPv4Address(struct.unpack_from(">I", rest)[0]))
    if command == 1 and family == 0x21 and len(rest) >= 36:
        return str(IPv6Address(rest[:16]))
    raise WireError("a PROXY header without an address of TCP is not acceptable here")


def certificate_identity(der: bytes | None, fields: Mapping[str, object]) -> Identity:
    """Return the identity in a client's certificate, which TLS has verified: its first name, or CN.

    A name that could not stand in a log or a metric is replaced by the certificate's hash.
    """
    if not der:
        return ANONYMOUS
    digest = hashlib.sha256(der).hexdigest()
    names = [
        str(name) for kind, name in _pairs(fields.get("subjectAltName")) if kind in {"DNS", "email", "URI"}
    ]
    subject = fields.get("subject")
    for part in subject if isinstance(subject, tuple) else ():
        names += [str(value) for kind, value in _pairs(part) if kind == "commonName"]
    name = next((name for name in names if _NAME.fullmatch(name)), f"sha256:{digest[:16]}")
    return Identity(name=name, key=None)


def _pairs(value: object) -> list[tuple[object, object]]:
    if not isinstance(value, tuple):
        return []
    return [(one[0], one[1]) for one in value if isinstance(one, tuple) and len(one) == 2]
