"""Following frames in a stream by their five header bytes. Sans-I/O; no byte of a body is kept.

Of a refusal, which crosses the network in the clear, the two bytes of its code are read as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from enclavectl.net.carriage import (
    FROM_CLIENT,
    FROM_CLIENT_FIRST,
    FROM_ENCLAVE,
    FROM_ENCLAVE_FIRST,
    HEADER_BYTES,
    FrameType,
    Sizes,
    WireError,
)

_CODE_BYTES = 2


class FrameFollower:
    """Counts the frames of one direction, and refuses a frame by its header.

    ``first`` has the types that the first frame may have, ``later`` those of all others. After a WireError
    the follower is dead: it raises the same error again.
    """

    def __init__(self, first: Sizes, later: Sizes) -> None:
        self._sizes = first
        self._later = later
        self._header = bytearray()
        self._code = bytearray()
        self._type: FrameType | None = None
        self._missing = 0
        self._error: WireError | None = None
        # Whole frames by type, and all bytes that were followed.
        self.frames: Counter[FrameType] = Counter()
        self.bytes = 0
        # Of the frame under way: its bytes so far, and when the first came.
        self.frame_bytes = 0
        self.began_at = 0.0
        # The code of the last refusal.
        self.refusal_code: int | None = None

    @property
    def is_mid_frame(self) -> bool:
        """True while part of a frame has passed; nothing may be said in between."""
        return self.frame_bytes > 0

    def feed(self, data: bytes, now: float) -> Sequence[FrameType]:
        """Follow all of ``data``, and return the type of each frame that ended in it.

        Raises:
            WireError: a frame has a type or a size that is not acceptable here.
        """
        ended: list[FrameType] = []
        at = 0
        while at < len(data):
            at = self._step(data, at, now, ended)
        return ended

    def finish(self, data: bytes, now: float) -> tuple[int, Sequence[FrameType]]:
        """Follow ``data`` to the end of the frame under way; return how many bytes are of that frame.

        Raises:
            WireError: as for ``feed``.
        """
        ended: list[FrameType] = []
        at = 0
        while at < len(data) and self.is_mid_frame:
            at = self._step(data, at, now, ended)
        return at, ended

    def _step(self, data: bytes, at: int, now: float, ended: list[FrameType]) -> int:
        """Follow the rest of a header or of a body, as far as it is there; return where it ends."""
        if self._error is not None:
            raise self._error
        if self._type is None:
            count = min(HEADER_BYTES - len(self._header), len(data) - at)
            if not self.frame_bytes:
                self.began_at = now
            self._header += data[at : at + count]
            if len(self._header) == HEADER_BYTES:
                self._begin()
        else:
            count = min(self._missing, len(data) - at)
            if self._type is FrameType.REFUSAL and len(self._code) < _CODE_BYTES:
                self._code += data[at : at + min(count, _CODE_BYTES - len(self._code))]
            self._missing -= count
        self.bytes += count
        self.frame_bytes += count
        if self._type is not None and not self._missing:
            self._end(self._type)
            ended.append(self._type)
            self._type = None
        return at + count

    def _begin(self) -> None:
        length, number = int.from_bytes(self._header[:4], "big"), self._header[4]
        self._header.clear()
        least, most = self._sizes.get(number, (0, -1))  # type: ignore[call-overload]  # IntEnum keys match ints
        if not least + 1 <= length <= most + 1:
            self._error = WireError(f"a frame of type {number} with {length} bytes is not acceptable here")
            raise self._error
        self._type, self._missing = FrameType(number), length - 1

    def _end(self, ended: FrameType) -> None:
        if ended is FrameType.REFUSAL:
            self.refusal_code = int.from_bytes(self._code, "big")
            self._code.clear()
        self.frames[ended] += 1
        self.frame_bytes = 0
        self._sizes = self._later


def follow_client() -> FrameFollower:
    """Make the follower of what a client sends: one challenge, then sealed requests."""
    return FrameFollower(FROM_CLIENT_FIRST, FROM_CLIENT)


def follow_enclave() -> FrameFollower:
    """Make the follower of what an enclave sends: evidence, then answers; a refusal at any place."""
    return FrameFollower(FROM_ENCLAVE_FIRST, FROM_ENCLAVE)
