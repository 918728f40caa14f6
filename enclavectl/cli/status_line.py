"""The one line on standard error that is written over while something long goes on.

Everything that a command prints goes through ``Screen``, which clears this line first: answers on the same
terminal never end up behind it. Rich's own live display cannot do that for two streams: it redirects them,
and its consoles write past the redirection.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TextIO

from enclavectl.cli.bars import bar

_CLEAR = "\r\x1b[K"
_BAR_CELLS = 20
# Ten times a second looks smooth; more only slows the work that is shown.
_BETWEEN_S = 0.1
# Before that, the time that is left is a guess from too little.
_ESTIMATE_AFTER_S = 2.0


class StatusLine:
    """What goes on now; nothing is written unless ``stream`` is a terminal."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds, for the pace and for the time that is left."""
        self._stream = stream
        self._clock = clock
        self._is_shown = False
        self._last_s = float("-inf")
        self._what = ""
        self._started_s = 0.0

    def show(self, text: str) -> None:
        """Write ``text`` over the line, unless the line that stands there is from just now."""
        now_s = self._clock()
        if (self._is_shown and now_s - self._last_s < _BETWEEN_S) or not self._stream.isatty():
            return
        self._last_s = now_s
        self._is_shown = True
        # One column less than there are: in the last one, some terminals wrap.
        self._stream.write(_CLEAR + text[: _columns(self._stream) - 1])
        self._stream.flush()

    def count(self, what: str, done: int, total: int | None, unit: str) -> None:
        """Show how much of ``total`` is done, and about how long the rest takes."""
        if what != self._what:
            self._what, self._started_s = what, self._clock()
        if not total:
            self.show(f"· {what}: {done:,} {unit}")
            return
        share = min(1.0, done / total)
        elapsed_s = self._clock() - self._started_s
        left = ""
        if share and elapsed_s >= _ESTIMATE_AFTER_S:
            left = f", about {_duration(elapsed_s / share - elapsed_s)} left"
        drawn = bar(share, _BAR_CELLS, encoding=self._stream.encoding or "")
        self.show(f"· {what} {drawn} {done:,} of {total:,} {unit}{left}")

    def clear(self) -> None:
        """Remove the line, so that something else can be written there."""
        if self._is_shown:
            self._is_shown = False
            self._stream.write(_CLEAR)
            self._stream.flush()


def _columns(stream: TextIO) -> int:
    try:
        # Zero where a terminal does not know.
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
