"""TCP connections by host and port: names are looked up and addresses tried within one deadline."""

from __future__ import annotations

import errno
import socket
import threading
import time
from dataclasses import dataclass, field

from enclavectl.errors import EnclavectlError, EnclaveLost, StateError
from enclavectl.net.address import bracketed, is_loopback

# The first of several addresses may be one that no packet comes back from, as with broken IPv6: RFC 8305 goes
# on after 0.25 s, side by side. One after the other, so that a slow link is not mistaken for a dead one.
_ONE_ADDRESS_S = 5.0
# The code of the error where nothing listens: it passes if the gateway is being restarted.
NOT_LISTENING = "not-listening"
_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}
_Resolved = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


def connect_tcp(host: str, port: int, deadline: float, *, what: str, peer: str = "gateway") -> socket.socket:
    """Connect to ``host``, by ``deadline`` on the monotonic clock; ``what`` names the peer in messages.

    ``peer`` is what should listen there.

    Raises:
        StateError: the name or the route does not exist, or nothing listens there.
        EnclaveLost: nobody answered by the deadline.
    """
    found = _resolve(host, port, deadline, what)
    problem: OSError = TimeoutError()
    for index, (family, address) in enumerate(found):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            break
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(left_s if index == len(found) - 1 else min(left_s, _ONE_ADDRESS_S))
            sock.connect(address)
            # A challenge and the end of a picture are small, and must not wait for an acknowledgment.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as exc:
            sock.close()
            problem = exc
        else:
            return sock
    raise _not_connected(problem, f"{bracketed(host)}:{port}", what, peer) from problem


@dataclass(slots=True)
class _Lookup:
    """What a thread has found, since getaddrinfo itself knows no deadline."""

    addresses: list[_Resolved] = field(default_factory=list)
    error: OSError | UnicodeError | None = None

    def run(self, host: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:  # UnicodeError: a label of more than 63 characters
            self.error = exc
        else:
            self.addresses = [(family, address) for family, _, _, _, address in found]


def _resolve(host: str, port: int, deadline: float, what: str) -> list[_Resolved]:
    lookup = _Lookup()
    # A daemon: a lookup that nobody waits for any more must not keep the command from ending.
    thread = threading.Thread(target=lookup.run, args=(host, port), daemon=True)
    thread.start()
    thread.join(max(deadline - time.monotonic(), 0))
    if thread.is_alive():
        raise EnclaveLost(
            f"{what}: the name {host} was not resolved in time",
            hint="is this machine online, and does its DNS server answer?",
            code="no-such-host",
        )
    addresses = lookup.addresses
    if is_loopback(host):  # what /etc/hosts calls localhost may be elsewhere
        addresses = [one for one in addresses if is_loopback(str(one[1][0]))]
    if not addresses:
        raise StateError(
            f"{what}: expected the name of a host, found that {host} does not resolve"
            f" ({lookup.error or 'no address'})",
            hint="check the spelling; if only a proxy knows the name, set https_proxy",
            code="no-such-host",
        ) from lookup.error
    return addresses


def _not_connected(problem: OSError, host: str, what: str, peer: str) -> EnclavectlError:
    if isinstance(problem, TimeoutError):
        return EnclaveLost(
            f"{what}: nobody answered at {host} in time",
            hint="does a firewall drop the packets? If this network has a proxy, set https_proxy",
            code="no-answer",
        )
    if problem.errno in _NO_ROUTE:
        return StateError(
            f"{what}: this machine has no route to {host} ({problem.strerror})",
            hint="is it online, and does it need a VPN or a proxy (https_proxy)?",
            code="no-route",
        )
    hint = "check the host and the port"
    return StateError(
        f"{what}: no {peer} listens at {host} ({problem.strerror or problem})",
        hint=f"{hint}; its operator runs enclavectl gateway"
        if peer == "gateway"
        else f"{hint} in https_proxy",
        code=NOT_LISTENING,
    )
