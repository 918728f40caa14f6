"""The bounds within which the server serves. What is over a bound is refused; the others are served on."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Counts, bytes and seconds. The defaults are what the image runs with; tests pass tighter ones."""

    # A thread each. All of them with a frame of 19 MiB under way are 600 MiB.
    connections: int = 32
    # Twice what our own client may keep on its way (diagnose.in_flight). An answer each fits the backlog.
    in_flight_per_connection: int = 32
    # Two connections' worth: with two workers under half a second of small pictures.
    queued_requests: int = 64
    # Three of the largest pictures, sealed.
    queued_bytes: int = 64 * MIB
    # An answer has 4 KiB: one MiB in all.
    outbox_answers: int = 256
    # As long as the parent keeps the reply keys (enclavectl.client.reply_keys).
    outbox_keep_s: float = 24 * 3600.0
    # A client asks at once; a minute lets a person choose the next picture.
    idle_s: float = 60.0
    # 16 MiB at 5 Mbit/s take 27 s.
    frame_s: float = 30.0
    # A peer that reads takes 4 KiB in milliseconds, over a relay in a second.
    send_s: float = 10.0
    # What our own client waits for an answer by default (diagnose.timeout_s).
    queue_s: float = 30.0
    # A connect that nobody takes costs microseconds, and who starts `listen` waits for it.
    redial_s: float = 1.0
    # Below the 6 s that the local supervisor gives, so that answers leave before the process is killed.
    grace_s: float = 5.0
