"""Console lines with their times in UTC, which nitro-cli's console lacks."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

# Bytes. Longer lines are split, so that a console without line ends cannot grow in memory.
MAX_LINE = 8 * 1024
# Lines end at line feeds only: a carriage return alone begins no line.
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


class TimestampedLines:
    """A converter of console bytes to lines with the time of their first byte; a line is returned whole."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._line = b""
        self._begun: datetime | None = None

    def feed(self, data: bytes) -> bytes:
        """Take more bytes; return the lines that are complete now."""
        out = []
        for piece in _LINE.findall(data):
            if self._begun is None:
                self._begun = self._clock()
            self._line += piece
            if piece.endswith(b"\n") or len(self._line) >= MAX_LINE:
                out.append(self.flush())
        return b"".join(out)

    def flush(self) -> bytes:
        """Return the incomplete last line as a line of its own."""
        if self._begun is None:
            return b""
        stamp = self._begun.strftime("%Y-%m-%dT%H:%M:%S.") + f"{self._begun.microsecond // 1000:03}Z "
        text, self._line, self._begun = self._line.rstrip(b"\r\n"), b"", None
        return stamp.encode() + text + b"\n"
