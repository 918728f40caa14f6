"""A token bucket. Sans-I/O: the caller brings the time."""

from __future__ import annotations


class TokenBucket:
    """``rate`` tokens a second, ``burst`` of them at most."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def take(self, count: float, now: float) -> float:
        """Take ``count`` tokens, also those that are not there yet; return the seconds until they are."""
        elapsed = 0.0 if self._at is None else max(now - self._at, 0.0)
        self._at = now
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate) - count
        return max(0.0, -self._tokens / self._rate)
