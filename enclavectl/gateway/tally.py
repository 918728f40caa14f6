"""What the gateway counts: plain numbers, which the metrics page and the log show."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from enclavectl.gateway.following import FrameFollower
from enclavectl.net.carriage import RefusalCode


class Carrier(StrEnum):
    """How a client's bytes come."""

    WEBSOCKET = "websocket"
    FRAMES = "frames"


class Outcome(StrEnum):
    """How a connection ended."""

    SERVED = "served"  # the client closed, and nothing was under way
    LEFT = "left"  # the client closed, or was lost, before an answer or before it asked
    BUSY = "busy"
    UNAUTHORIZED = "unauthorized"
    REVOKED = "revoked"
    SLOW = "slow"
    PROTOCOL = "protocol"
    NO_ENCLAVE = "no_enclave"
    ENCLAVE_ENDED = "enclave_ended"
    ENCLAVE_REFUSED = "enclave_refused"
    STOPPING = "stopping"


class Histogram:
    """Counts of values up to each bound, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


# A picture takes 2 to 15 ms of a worker; the rest is the network and waiting.
_REQUEST_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SESSION_BOUNDS = (1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)


@dataclass(slots=True)
class Tally:
    """Everything that is counted since the start. No key comes from a client, but a token's name."""

    open: Counter[Carrier] = field(default_factory=Counter)
    ended: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    frames: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    client_requests: Counter[str] = field(default_factory=Counter)
    request_seconds: dict[str, Histogram] = field(default_factory=dict)
    handshake_seconds: dict[Carrier, Histogram] = field(default_factory=dict)
    # Lines of the log that could not be written.
    lost_records: int = 0
    session_seconds: Histogram = field(default_factory=lambda: Histogram(_SESSION_BOUNDS))

    def count_session(
        self, up: FrameFollower, down: FrameFollower, *, carrier: Carrier, outcome: Outcome, seconds: float
    ) -> None:
        """Count a session that has ended, with what it carried each way."""
        self.ended[carrier, outcome] += 1
        self.session_seconds.observe(seconds)
        for direction, follower in (("up", up), ("down", down)):
            self.bytes[direction] += follower.bytes
            for kind, count in follower.frames.items():
                self.frames[direction, kind.name.lower()] += count

    def observe_request(self, release: str, seconds: float) -> None:
        """Count a request's time from its last byte to its answer's last byte."""
        self.request_seconds.setdefault(release, Histogram(_REQUEST_BOUNDS)).observe(seconds)

    def observe_handshake(self, carrier: Carrier, seconds: float) -> None:
        """Count the time from a connection to the end of TLS and HTTP."""
        self.handshake_seconds.setdefault(carrier, Histogram(_REQUEST_BOUNDS)).observe(seconds)

    def refuse(self, who: str, code: int) -> None:
        """Count a refusal of ``who``: gateway or enclave. An unknown code counts as one kind."""
        known = code in set(RefusalCode)
        self.refusals[who, RefusalCode(code).name.lower() if known else "unknown"] += 1
