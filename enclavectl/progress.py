"""The interface by which long work in the library reports its progress; only the CLI draws it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """The receiver of progress reports."""

    def note(self, text: str) -> None:
        """Report a fact that a person should know now."""

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        """Report that ``what`` has taken ``elapsed_s`` of at most about ``bound_s`` seconds. Called often."""


class NoProgress:
    """A ``Progress`` that discards all reports."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        """Do nothing."""
