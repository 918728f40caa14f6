"""How long work in the library reports; only the CLI draws."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What long work tells of itself; the caller draws it."""

    def note(self, text: str) -> None:
        """Tell a fact that a person should know now."""

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        """Tell that ``what`` has taken ``elapsed_s`` of at most about ``bound_s`` seconds. Called often."""


class NoProgress:
    """A ``Progress`` that nobody watches."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        """Do nothing."""
