"""New connections to a gateway after BUSY, STOPPING or a loss: how many, and when."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

# Since the last answer. A gateway has up to four enclaves behind it: one more try than that helps nobody.
MAX_CONNECTIONS = 3
# A person waits for a minute, and a gateway has restarted by then.
WITHIN_S = 60.0
# Before each. A loss is mostly of one enclave among several; a crowd takes longer, and a restart longest.
_PAUSES_S = (0.25, 2.0, 8.0)


class Reconnections:
    """The new connections that are left since the last answer. One for each batch or library session."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds that only grow."""
        self._clock = clock
        self.used = 0
        self._first_at = 0.0

    def answered(self) -> None:
        """Begin anew: the gateway and an enclave behind it do answer."""
        self.used = 0

    def next_pause_s(self) -> float | None:
        """Use up one connection and return how long to wait before it; None if none is left."""
        now = self._clock()
        if self.used == 0:
            self._first_at = now
        if self.used >= MAX_CONNECTIONS:
            return None
        pause_s = jittered(_PAUSES_S[self.used])
        if now + pause_s > self._first_at + WITHIN_S:
            return None
        self.used += 1
        return pause_s


def jittered(pause_s: float) -> float:
    """Half of the pause to all of it, at random: clients that were refused together come back apart."""
    # Not the module random, whose imports slow the start.
    return pause_s * (0.5 + int.from_bytes(os.urandom(2)) / 2**17)
