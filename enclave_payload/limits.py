"""The bounds within which the server serves. What is over a bound is refused; the others are served on."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Counts, bytes and seconds. The defaults are what the image runs with; tests pass tighter ones."""

    # Proven: a request of theirs opened. Not over `queued_requests`, so that each may have one waiting.
    connections: int = 64
    # All others. With the proven ones below 256 descriptors, which is what the local sandbox allows.
    unproven_connections: int = 128
    # Twice what our own client may keep on its way (diagnose.in_flight). An answer each fits the backlog.
    in_flight_per_connection: int = 32
    # Two connections' worth: with two workers under half a second of small pictures.
    queued_requests: int = 64
    # Three of the largest pictures, sealed.
    queued_bytes: int = 64 * MIB
    # Of all connections together: six of the largest pictures on their way in.
    unfinished_bytes: int = 128 * MIB
    # An answer has 4 KiB: four MiB in all.
    outbox_answers: int = 1024
    # Of one session. `send` hands in as many pictures at a time.
    outbox_answers_per_session: int = 256
    # As long as the parent keeps the reply keys (enclavectl.client.reply_keys).
    outbox_keep_s: float = 24 * 3600.0
    # A client sends its challenge with the connection.
    challenge_s: float = 5.0
    # From the evidence to the first byte of a request: our own client verifies in 10 ms and sends.
    first_request_s: float = 10.0
    # Between requests; a minute lets a person choose the next picture.
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
    # How often the console hears of bad peers: 8,640 lines a day at most.
    tally_s: float = 10.0
    # Of the processor. Honest pictures at the limits of size take up to 2 s on one core of a server, and an
    # emulated one, as QEMU's without KVM, needs several seconds for what takes a server 30 ms.
    picture_cpu_s: float = 10.0
    # By the clock, where a decoder waits for what never comes, or others take its processor.
    picture_wall_s: float = 25.0
    # On top of what a decoder maps when it starts. A WebP of 49 megapixels takes 742 MiB, a PNG 567.
    picture_memory_bytes: int = 896 * MIB
    # Of all but decoders, estimated: root file system 100 MiB, kernel 100, processes 100 to 150, and the
    # bounds on what waits or is on its way.
    base_memory_bytes: int = 600 * MIB
    # From here on a picture gives its worker to others who wait. A JPEG of 12 megapixels takes 130 ms.
    slow_s: float = 0.1
    # But only from here on to those whose own pictures are slow: all work would be done twice. A JPEG of 48
    # megapixels takes half of this.
    long_s: float = 1.0
    # A decoder is replaced after half of this, so that none lives long; the kernel ends it after all of it.
    decoder_cpu_s: int = 120


# With two decoders a picture that takes long holds one of them only, where there is one CPU as well.
MIN_DECODERS = 2
# A decoder's slot is one byte of what the zygote is told.
MAX_DECODERS = 256


def decoder_count(cpus: int, memory_bytes: int, limits: Limits) -> int:
    """Return how many decoders an enclave has: one for each CPU, and one more if it has the memory for that.

    While one of them waits for the key holder, which signs, seals and opens, another one has its CPU: a
    twentieth more pictures. The memory is that of the worst picture in each of them, and ``memory_bytes`` is
    what the kernel counts, which is less than what the enclave was given.
    """
    has_room = memory_bytes >= limits.base_memory_bytes + (cpus + 1) * limits.picture_memory_bytes
    return min(max(MIN_DECODERS, cpus + has_room), MAX_DECODERS)
