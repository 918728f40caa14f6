"""What peers do wrong, counted: they must not be able to fill the console."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable


class Tally:
    """Counts by a few fixed texts, and logs one line with all counts every ``every_s`` seconds at most."""

    def __init__(self, log: Callable[[str], None], every_s: float) -> None:
        self._log = log
        self._every_s = every_s
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._since = float("-inf")

    def add(self, what: str) -> None:
        """Count one more ``what``. Any thread may."""
        with self._lock:
            self._counts[what] += 1

    def tell(self, *, is_last: bool = False) -> None:
        """Log what was counted, if the last line is old enough or none will follow."""
        now = time.monotonic()
        with self._lock:
            if not self._counts or not (is_last or now >= self._since + self._every_s):
                return
            line = ", ".join(f"{what} ({count})" for what, count in self._counts.items())
            self._counts.clear()
            self._since = now
        self._log(line)
