"""Who has a place at the server, and who gives way when places, memory or time run out.

A peer proves that it is no stranger by a request that opens. Strangers have places of their own: in any
number they take none from proven peers, and the one that has said least for the longest time gives way to the
next. The connection that the enclave dialed has a place for itself. Used by the server's loop only.
"""

from __future__ import annotations

import math
import time

from enclave_payload.connection import Connection
from enclave_payload.limits import Limits


class Places:
    """The connections of the server, by descriptor, the oldest first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._connections: dict[int, Connection] = {}
        self._held_bytes = 0

    def get(self, descriptor: int) -> Connection | None:
        """Return the connection with this descriptor, if there is one."""
        return self._connections.get(descriptor)

    def all(self) -> list[Connection]:
        """Return every connection."""
        return list(self._connections.values())

    def add(self, connection: Connection) -> None:
        """Give the connection a place."""
        self._connections[connection.fileno()] = connection

    def remove(self, connection: Connection) -> None:
        """Take the place back. The descriptor is still open."""
        del self._connections[connection.fileno()]
        self._held_bytes -= connection.held_bytes

    def displaced_by_one(self) -> list[Connection]:
        """Return the stranger who must leave before another one comes, if all their places are taken."""
        # Counting all is enough: `surplus` keeps the proven within theirs.
        limit = self._limits.connections + self._limits.unproven_connections
        if len(self._connections) < limit:
            return []
        strangers = [peer for peer in self._connections.values() if _is_stranger(peer)]
        return [min(strangers, key=lambda peer: peer.has_challenged)] if strangers else []

    def surplus(self) -> list[Connection]:
        """Return the proven peers over their number: first those that are idle, for the longest time."""
        proven = [peer for peer in self._connections.values() if peer.is_proven]
        proven.sort(key=lambda peer: (peer.in_flight > 0, peer.quiet_since))
        return proven[: max(len(proven) - self._limits.connections, 0)]

    def hold(self, connection: Connection, *, is_new_frame: bool) -> list[Connection]:
        """Count what is held of the frame that the connection receives; return those over the bound of all.

        Strangers first, then the frames that have taken longest.
        """
        now = time.monotonic()
        connection.quiet_since = now
        session = connection.session
        self._held_bytes += session.held_bytes - connection.held_bytes
        connection.held_bytes = session.held_bytes
        if not session.is_mid_frame:
            connection.frame_since = None
        elif is_new_frame or connection.frame_since is None:
            # Counted from a frame's first byte, so that one byte a minute does not hold a place. A peer that
            # streams frames without a pause gets a deadline for each.
            connection.frame_since = now
        excess = self._held_bytes - self._limits.unfinished_bytes
        if excess <= 0:
            return []
        displaced = []
        holding = [peer for peer in self._connections.values() if peer.held_bytes]
        for peer in sorted(holding, key=lambda peer: (peer.is_proven, peer.frame_since or now)):
            displaced.append(peer)
            excess -= peer.held_bytes
            if excess <= 0:
                break
        return displaced

    def stuck(self, now: float) -> list[Connection]:
        """Return the peers that do not read what they were sent."""
        limit = now - self._limits.send_s
        return [peer for peer in self.all() if (since := peer.stuck_since) is not None and since < limit]

    def late(self, now: float) -> list[Connection]:
        """Return the peers that did not write in time."""
        return [peer for peer in self.all() if self._deadline(peer) < now]

    def _deadline(self, peer: Connection) -> float:
        limits = self._limits
        if not peer.has_challenged:
            return peer.since + limits.challenge_s
        if peer.frame_since is not None:
            return peer.frame_since + limits.frame_s
        # A listener may wait for hours between answers; others wait for the enclave, which is the one late.
        if peer.is_paused or peer.in_flight or not peer.session.accepts_requests:
            return math.inf
        return peer.quiet_since + limits.idle_s if peer.is_proven else peer.since + limits.first_request_s


def _is_stranger(peer: Connection) -> bool:
    return not peer.is_proven and peer.session.accepts_requests
