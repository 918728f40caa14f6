"""How the library tells what goes on; whoever calls it draws."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Somebody who listens while something long goes on."""

    def note(self, text: str) -> None:
        """A fact that a person should know now."""

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        """``what`` has taken ``elapsed_s`` of at most about ``bound_s`` seconds. Called often."""


class NoProgress:
    """Nobody listens."""

    def note(self, text: str) -> None:
        """Nothing happens."""

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        """Nothing happens."""
