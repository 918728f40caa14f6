"""Who may connect how often: bounds in all, for each client and for each address."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from enclavectl.config.gateway import GatewayConfig
from enclavectl.net.bucket import TokenBucket

# A provider gives a customer a /64 at least, so all of it counts as one.
_IPV6_PREFIX = 64


class Bound(StrEnum):
    """The bound that a connection would exceed."""

    ALL = "connections"
    CLIENT = "connections of this client"
    ADDRESS = "connections of this address"


class OverBound(Exception):
    """A bound is reached; the peer may try again later."""

    def __init__(self, bound: Bound) -> None:
        super().__init__(f"too many {bound}")
        self.bound = bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who connects: a name with what proved it, or nobody. ``key`` stays the same while the proof holds."""

    name: str | None = None
    key: str | None = None


ANONYMOUS = Identity()


def address_group(text: str) -> str:
    """Return what counts as one address: the address, or its network of 64 bits in IPv6."""
    address = parse_ip(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _IPV6_PREFIX), strict=False))
    return text if address is None else str(address)


def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address without its zone, and as IPv4 where IPv6 only maps one; None if it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


class Admission:
    """Counts the sessions, and the requests of each client."""

    def __init__(self, limits: GatewayConfig) -> None:
        self._limits = limits
        self._clients: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._buckets: dict[str, TokenBucket] = {}
        self.count = 0

    def enter(self, identity: Identity, address: str) -> Ticket:
        """Count one more session.

        Raises:
            OverBound: a bound is reached; nothing was counted.
        """
        group, limits = address_group(address), self._limits
        if self.count >= limits.connections:
            raise OverBound(Bound.ALL)
        if identity.name is not None and self._clients[identity.name] >= limits.connections_per_client:
            raise OverBound(Bound.CLIENT)
        if self._addresses[group] >= limits.connections_per_address:
            raise OverBound(Bound.ADDRESS)
        self.count += 1
        self._addresses[group] += 1
        if identity.name is not None:
            self._clients[identity.name] += 1
        return Ticket(self, identity, group)

    def leave(self, identity: Identity, group: str) -> None:
        """Count one session less, and forget a name or an address that has none."""
        self.count -= 1
        for counter, key in ((self._addresses, group), (self._clients, identity.name)):
            if key is not None:
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]

    def take_requests(self, identity: Identity, group: str, count: int, now: float) -> float:
        """Count requests; return the seconds until the client may send the next one.

        A client without a name shares the bucket of its address.
        """
        key = f"name {identity.name}" if identity.name is not None else f"address {group}"
        bucket = self._buckets.get(key)
        if bucket is None:
            self._forget_buckets()
            bucket = TokenBucket(self._limits.requests_per_s, self._limits.requests_burst)
            self._buckets[key] = bucket
        return bucket.take(count, now)

    def _forget_buckets(self) -> None:
        """Drop the buckets of those who have no session, when there are many."""
        if len(self._buckets) > 2 * self._limits.connections:
            alive = {f"name {name}" for name in self._clients}
            alive |= {f"address {group}" for group in self._addresses}
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if key in alive}


class Ticket:
    """One counted session; ``leave`` gives its place back, once."""

    def __init__(self, admission: Admission, identity: Identity, group: str) -> None:
        self._admission = admission
        self._group = group
        self._has_left = False
        self.identity = identity

    def take_requests(self, count: int, now: float) -> float:
        """Count requests of this client; return the seconds until it may send the next one."""
        return self._admission.take_requests(self.identity, self._group, count, now)

    def leave(self) -> None:
        """Give the place back."""
        if not self._has_left:
            self._has_left = True
            self._admission.leave(self.identity, self._group)
