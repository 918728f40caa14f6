"""Connections that have not said their challenge yet: a bounded number, where the greediest gives way.

Of the address that has most of them the oldest is let go. Who opens connections and says nothing pushes out
its own, and an honest peer is through in milliseconds.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable


class Opening:
    """One connection that is being opened; ``leave`` when it is through or gone."""

    def __init__(self, openings: Openings, group: str, began_at: float) -> None:
        self._openings = openings
        self.group = group
        self.began_at = began_at

    def leave(self) -> None:
        """Give the place to others. May be called again."""
        self._openings.discard(self)


class Openings:
    """The connections that are being opened, oldest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._aborts: OrderedDict[Opening, Callable[[], None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._aborts)

    def enter(self, group: str, abort: Callable[[], None], now: float) -> Opening:
        """Add a connection of an address, or of a network that counts as one; over the bound, let one go."""
        if len(self._aborts) >= self._limit:
            self._let_one_go()
        opening = Opening(self, group, now)
        self._aborts[opening] = abort
        return opening

    def _let_one_go(self) -> None:
        counts = Counter(opening.group for opening in self._aborts)
        most = max(counts.values())
        oldest = next(opening for opening in self._aborts if counts[opening.group] == most)
        self._aborts.pop(oldest)()

    def discard(self, opening: Opening) -> None:
        """Forget a connection."""
        self._aborts.pop(opening, None)

    def abort_older(self, since: float) -> None:
        """Abort those that began before ``since``."""
        for opening in [one for one in self._aborts if one.began_at < since]:
            self._aborts.pop(opening)()
