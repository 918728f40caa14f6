"""Connections that have not said their challenge yet: a bounded number, where the oldest gives way.

Who opens connections and says nothing pushes out its own, and an honest peer is through in milliseconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Opening:
    """One connection that is being opened; ``leave`` when it is through or gone."""

    def __init__(self, openings: Openings, began_at: float) -> None:
        self._openings = openings
        self.began_at = began_at

    def leave(self) -> None:
        """Give the place to others. May be called again."""
        self._openings.discard(self)


class Openings:
    """The connections that are being opened, oldest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._aborts: OrderedDict[Opening, Callable[[], None]] = OrderedDict()
        self.pushed_out = 0

    def __len__(self) -> int:
        return len(self._aborts)

    def enter(self, abort: Callable[[], None], now: float) -> Opening:
        """Add a connection; over the bound, abort the oldest."""
        if len(self._aborts) >= self._limit:
            _, oldest = self._aborts.popitem(last=False)
            self.pushed_out += 1
            oldest()
        opening = Opening(self, now)
        self._aborts[opening] = abort
        return opening

    def discard(self, opening: Opening) -> None:
        """Forget a connection."""
        self._aborts.pop(opening, None)

    def abort_older(self, since: float) -> int:
        """Abort those that began before ``since``; return how many."""
        old = [opening for opening in self._aborts if opening.began_at < since]
        for opening in old:
            self._aborts.pop(opening)()
        return len(old)
