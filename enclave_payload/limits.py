"""The bounds within which the server serves. What is over a bound is refused; the others are served on."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Counts, bytes and seconds. The defaults are what the image runs with; tests pass tighter ones."""

    connections: int = 32
    in_flight_per_connection: int = 32
    queued_requests: int = 64
    queued_bytes: int = 64 * MIB
    outbox_answers: int = 256
    outbox_keep_s: float = 24 * 3600.0
    idle_s: float = 60.0
    frame_s: float = 30.0
    send_s: float = 10.0
    queue_s: float = 30.0
    redial_s: float = 1.0
    grace_s: float = 5.0
