"""A connected stream of bytes, whatever carries it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from enclave_payload.wire import Buffer


class ByteStream(Protocol):
    """What a connected socket has and ``FrameStream`` uses.

    After ``settimeout(0)`` neither call waits: each does what it can at once, or raises BlockingIOError.
    """

    def settimeout(self, value: float | None, /) -> None:
        """Set how many seconds the next calls may wait."""

    def sendmsg(self, buffers: Sequence[Buffer], /) -> int:
        """Send what fits of the buffers, and return how many bytes that was.

        Raises:
            OSError: TimeoutError or BlockingIOError if it had to wait for longer.
        """

    def recv(self, bufsize: int, /) -> bytes:
        """Return at least one byte, or none at the end of the stream.

        Raises:
            OSError: TimeoutError or BlockingIOError if it had to wait for longer.
        """

    def close(self) -> None:
        """End the connection."""
