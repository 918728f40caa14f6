"""The slow lane: how many workers pictures that take long may hold, and the line of those that wait."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from enclave_payload.limits import Limits

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    job: T
    size: int


class SlowLane(Generic[T]):
    """Places for all workers but one, so that one is always there for small pictures; with one worker, one.

    Who has a place keeps it until nothing waits in line. So the line moves as long as it has anything in it.
    """

    def __init__(self, workers: int, limits: Limits) -> None:
        self._free = max(1, workers - 1)
        self._limits = limits
        self._line: deque[_Waiting[T]] = deque()
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Take a place, if one is free."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            return False

    def line_up(self, job: T, size: int) -> bool:
        """Let the job wait for a place; False if the line is too long, in jobs or in bytes."""
        with self._lock:
            total = size + sum(waiting.size for waiting in self._line)
            if len(self._line) >= self._limits.queued_requests or total > self._limits.queued_bytes:
                return False
            self._line.append(_Waiting(job, size))
            return True

    def next_or_leave(self) -> T | None:
        """Return the next job in line, for who has a place; None gives the place up."""
        with self._lock:
            if self._line:
                return self._line.popleft().job
            self._free += 1
            return None
