"""One loop over descriptors and timers, in which nothing may wait."""

from __future__ import annotations

import heapq
import select
import time
from collections import deque
from collections.abc import Callable
from itertools import count

# Descriptors that one turn handles before timers get theirs.
_BATCH = 256


class Timer:
    """A call that is due at a time, until it is cancelled."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget the call; nothing happens if it was made already."""
        self._callback = None

    def fire(self) -> None:
        """Make the call, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Reactor:
    """Calls back what has become ready. Level-triggered: what is not taken is reported again."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._soon: deque[Callable[[], None]] = deque()
        self._numbers = count()

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call back with the events of ``fd`` (select.EPOLLIN and so on). An end is always reported."""
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watched[fd] = callback

    def forget(self, fd: int) -> None:
        """Stop to watch ``fd``, before it is closed. It may be one that is not watched."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back once, after ``delay_s`` seconds."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._numbers), timer))
        return timer

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back once, in the next turn."""
        self._soon.append(callback)

    def turn(self, timeout_s: float | None = None) -> None:
        """Wait until something is ready, at most ``timeout_s`` seconds, and handle it."""
        for fd, events in self._epoll.poll(self._wait_s(timeout_s), _BATCH):
            # An earlier callback of this turn may have forgotten it.
            callback = self._watched.get(fd)
            if callback is not None:
                callback(events)
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2].fire()
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    def close(self) -> None:
        """Close the loop's own descriptor; those that it watched are their owners'."""
        self._epoll.close()

    def _wait_s(self, timeout_s: float | None) -> float | None:
        if self._soon:
            return 0.0
        if not self._timers:
            return timeout_s
        due_s = max(0.0, self._timers[0][0] - time.monotonic())
        return due_s if timeout_s is None else min(due_s, timeout_s)
