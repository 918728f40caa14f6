"""Frames: how a byte stream becomes messages. Sans-I/O: bytes in, frames out.

A frame is ``u32 length | u8 type | body``, big-endian, where length counts type and body.
docs/protocol.md, "Frames", is the specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

# What a field may be while a picture travels: copied only where somebody keeps it.
Buffer: TypeAlias = bytes | memoryview

# The largest message is a sealed picture of 16 MiB (messages.MAX_SEALED_BYTES); the rest is room.
MAX_FRAME_BYTES = 20 * 1024 * 1024
HEADER_BYTES = 5
# A frame over this is received in place: joining chunks would copy a picture three times. Its buffer begins
# at this size, one read of a socket, and doubles as bytes come, so that a header commits no memory by itself.
_LARGE_FRAME_BYTES = 64 * 1024


class WireError(Exception):
    """The peer's bytes are not frames or messages of this protocol. A reader that raised it is dead."""


class FrameType(IntEnum):
    """The second field of a frame."""

    CHALLENGE = 1
    EVIDENCE = 2
    SEALED = 3
    ANSWER = 4
    REFUSAL = 5
    TAKEN = 6
    # On the release port only (release).
    OFFER = 7
    RECIPIENT = 8
    KMS_ANSWER = 9
    CHUNK = 10
    STATUS = 11


@dataclass(frozen=True, slots=True)
class Frame:
    """One complete frame. ``body`` is a read-only view of bytes that nobody else holds."""

    type: FrameType
    body: memoryview


def encode_frame(frame_type: FrameType, *parts: Buffer) -> bytes:
    """Write the frame whose body is ``parts``, joined.

    The caller keeps within the limits of docs/protocol.md.
    """
    # One join: a picture is copied once here and not once a field.
    return b"".join((frame_header(frame_type, sum(map(len, parts))), *parts))


def frame_header(frame_type: FrameType, body_bytes: int) -> bytes:
    """Write what stands before a body of that size."""
    return (1 + body_bytes).to_bytes(4, "big") + bytes([frame_type])


class FrameReader:
    """Cuts a stream into frames, refusing a frame by its header, before its body is buffered.

    ``limits`` maps each type that is acceptable now to the most bytes its body may have; replace it as the
    session moves on. So a peer that has not yet sent its challenge never makes us hold more than a challenge,
    and no peer more than twice what it has sent.
    """

    def __init__(self, limits: Mapping[FrameType, int]) -> None:
        self.limits = limits
        self._buffer = bytearray()
        # A large frame under way: its bytes and the room behind them; how many came; how many it will have.
        self._large: bytearray | None = None
        self._filled = 0
        self._end = 0
        self._error: WireError | None = None

    @property
    def is_mid_frame(self) -> bool:
        """True while part of a frame has arrived; an end of stream is then a truncation."""
        return bool(self._buffer) or self._large is not None

    @property
    def held_bytes(self) -> int:
        """The memory of the part of a frame that has arrived."""
        return len(self._buffer) + len(self._large or b"")

    def feed(self, data: bytes) -> None:
        """Add what the stream brought. Call ``next_frame`` until it returns None before feeding more."""
        if self._error is not None:
            return
        if self._large is not None:
            missing = self._end - self._filled
            del self._large[self._filled :]
            self._large += data[:missing]
            self._filled = len(self._large)
            data = data[missing:]
        self._buffer += data

    def room(self) -> memoryview | None:
        """Return where more of a large frame belongs, or None: then use ``feed``.

        Receive into it, release it and call ``filled``. It is a part of what the frame lacks.
        """
        if self._large is None:
            return None
        if self._filled == len(self._large):
            more = max(self._filled, _LARGE_FRAME_BYTES)
            self._large += bytes(min(more, self._end - self._filled))
        return memoryview(self._large)[self._filled :]

    def filled(self, count: int) -> None:
        """Count the bytes that the stream brought into ``room``."""
        self._filled += count

    def next_frame(self) -> Frame | None:
        """Return the next complete frame, or None when more bytes are needed.

        Raises:
            WireError: an unknown or unexpected type, a length of zero or over the limit. From then
                on every call raises the same error.
        """
        if self._error is not None:
            raise self._error
        if self._large is not None:
            return self._finish_large(self._large)
        if len(self._buffer) < HEADER_BYTES:
            return None
        length = int.from_bytes(self._buffer[:4], "big")
        frame_type = self._checked_type(self._buffer[4], length)
        end = 4 + length
        if len(self._buffer) < end:
            if end > _LARGE_FRAME_BYTES:
                self._large, self._filled, self._end = self._buffer, len(self._buffer), end
                self._buffer = bytearray()
            return None
        return Frame(frame_type, self._take(end)[HEADER_BYTES:])

    def _finish_large(self, large: bytearray) -> Frame | None:
        if self._filled < self._end:
            return None
        self._large = None
        return Frame(FrameType(large[4]), memoryview(large).toreadonly()[HEADER_BYTES:])

    def _take(self, end: int) -> memoryview:
        view = memoryview(self._buffer)
        # Whichever is shorter is copied: a picture is handed on as it came, and many small frames in one
        # buffer neither copy its rest each time nor keep all of it alive.
        if 2 * end > len(self._buffer):
            self._buffer = bytearray(view[end:])
            return view[:end].toreadonly()
        frame = bytes(view[:end])
        view.release()
        del self._buffer[:end]
        return memoryview(frame)

    def _checked_type(self, value: int, length: int) -> FrameType:
        limit = self.limits.get(value)  # type: ignore[call-overload]  # IntEnum keys match plain ints
        if limit is None:
            raise self._dead(f"frame type {value} is not acceptable here")
        if not 1 <= length <= min(limit + 1, MAX_FRAME_BYTES):
            raise self._dead(f"frame of type {value} claims {length} bytes; at most {limit + 1} are allowed")
        return FrameType(value)

    def _dead(self, message: str) -> WireError:
        self._buffer.clear()
        self._error = WireError(message)
        return self._error
