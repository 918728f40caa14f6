"""The status line: a line on standard error that is overwritten during long work.

All output goes through ``Screen``, which clears this line first, so that no answer is printed after it on the
same line. Rich's live display cannot do that for two streams: it redirects them, and its consoles bypass the
redirection.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TextIO

from enclavectl.cli.bars import bar
from enclavectl.cli.closed_output import discard_output

_CLEAR = "\r\x1b[K"
_BAR_CELLS = 20
# Seconds. Ten updates a second look smooth; more would only slow the work.
_BETWEEN_S = 0.1
# Seconds. An earlier estimate of the remaining time would be inaccurate.
_ESTIMATE_AFTER_S = 2.0


class StatusLine:
    """The line for the current work; nothing is written unless ``stream`` is a terminal."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to ``stream``; ``clock`` gives seconds, for the update rate and the remaining time."""
        self._stream = stream
        self._clock = clock
        self._is_shown = False
        self._last_s = float("-inf")
        self._what = ""
        self._started_s = 0.0
        self._first_done = 0

    def show(self, text: str) -> None:
        """Overwrite the line with ``text``, unless the last update is too recent."""
        now_s = self._clock()
        if (self._is_shown and now_s - self._last_s < _BETWEEN_S) or not self._stream.isatty():
            return
        self._last_s = now_s
        self._is_shown = True
        # Leave the last column free, since some terminals wrap there.
        self._write(_CLEAR + text[: _columns(self._stream) - 1])

    def count(self, what: str, done: int, total: int | None, unit: str, *, has_rate: bool = False) -> None:
        """Show the done part of ``total`` and the estimated remaining time; with ``has_rate``, the rate.

        What is done at the first call, an earlier command did.
        """
        if what != self._what:
            self._what, self._started_s, self._first_done = what, self._clock(), done
        if not total:
            self.show(f"· {what}: {done:,} {unit}")
            return
        share = min(1.0, done / total)
        elapsed_s = self._clock() - self._started_s
        left, here = "", done - self._first_done
        if here > 0 and elapsed_s >= _ESTIMATE_AFTER_S:
            rate = f", {here / elapsed_s:,.1f}/s" if has_rate else ""
            left = f"{rate}, about {_duration(elapsed_s * (total - done) / here)} left"
        drawn = bar(share, _BAR_CELLS, encoding=self._stream.encoding or "")
        self.show(f"· {what} {drawn} {done:,} of {total:,} {unit}{left}")

    def clear(self) -> None:
        """Remove the line, so that something else can be written there."""
        if self._is_shown:
            self._is_shown = False
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the terminal hung up, which must not end the work
            discard_output(self._stream)


def _columns(stream: TextIO) -> int:
    try:
        # A terminal that does not know its width reports zero.
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
