"""New connections to a gateway after BUSY, STOPPING or a loss: how many, and when."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from enclavectl.errors import EnclaveBusy, EnclaveLost, StateError
from enclavectl.net.tcp import NOT_LISTENING

_T = TypeVar("_T")

# Since the last answer. A gateway has up to four enclaves behind it: one more try than that helps nobody.
MAX_CONNECTIONS = 3
# A person waits for a minute.
WITHIN_S = 60.0
# Before each. A loss is mostly of one enclave among several; a crowd takes longer.
_PAUSES_S = (0.25, 2.0, 8.0)
# Of a gateway that stops or is gone: it accepts for 5 s, drains, and starts again. Together below the 30 s of
# ``diagnose.timeout_s``, which bounds the wait for a session.
_RESTART_PAUSES_S = (0.25, 8.0, 20.0)
_STOPPING = "refused-stopping"
# What is kept of the time for the last try, or half of a shorter time: one that is cut short by the deadline
# would tell of a silent peer where the peer was busy.
_LAST_TRY_S = 2.0
# The pauses before a busy enclave of this host is asked again: twice as long each time, up to the second.
_BUSY_PAUSE_S = 0.05
_MAX_BUSY_PAUSE_S = 2.0


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

    def next_pause_s(self, *, is_restart: bool = False) -> float | None:
        """Use up one connection and return how long to wait before it; None if none is left.

        ``is_restart`` is true where the gateway itself stops or is gone.
        """
        now = self._clock()
        if self.used == 0:
            self._first_at = now
        if self.used >= MAX_CONNECTIONS:
            return None
        pause_s = jittered((_RESTART_PAUSES_S if is_restart else _PAUSES_S)[self.used])
        if now + pause_s > self._first_at + WITHIN_S:
            return None
        self.used += 1
        return pause_s


def keep_trying(
    attempt: Callable[[], _T],
    deadline: float,
    left: Reconnections | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _T:
    """Return what ``attempt`` returns; try again after an error that may pass, until ``deadline``.

    Through a gateway that is one of BUSY, STOPPING and a loss, as often as ``left`` allows. On this host
    (None) only a busy enclave is asked again. ``deadline`` is by ``clock``.

    Raises:
        EnclavectlError: of the last attempt.
    """
    busy_pause_s = _BUSY_PAUSE_S
    last_try_at = deadline - min(_LAST_TRY_S, (deadline - clock()) / 2)
    while True:
        try:
            return attempt()
        except (EnclaveBusy, EnclaveLost, StateError) as error:
            pause_s: float | None = None
            if left is not None:
                # A gateway that has answered before and does not listen now is being restarted.
                is_gone = left.used > 0 and error.code == NOT_LISTENING
                if is_gone or not isinstance(error, StateError):
                    pause_s = left.next_pause_s(is_restart=is_gone or error.code == _STOPPING)
            elif isinstance(error, EnclaveBusy):
                busy_pause_s = min(2 * busy_pause_s, _MAX_BUSY_PAUSE_S)
                pause_s = jittered(busy_pause_s)
            # Rather a last try that comes soon than none.
            pause_s = None if pause_s is None else min(pause_s, last_try_at - clock())
            if pause_s is None or pause_s <= 0:
                raise
            sleep(pause_s)


def jittered(pause_s: float) -> float:
    """Half of the pause to all of it, at random: clients that were refused together come back apart."""
    # Not the module random, whose imports slow the start.
    return pause_s * (0.5 + int.from_bytes(os.urandom(2)) / 2**17)
