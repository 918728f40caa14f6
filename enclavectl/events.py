"""What the library tells while it works; the CLI draws it, a script ignores it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class EventKind(StrEnum):
    """How an event wants to be shown."""

    STEP = "step"  # something has begun
    NOTE = "note"  # a fact worth a line
    WARNING = "warning"  # a fact that weakens what the user gets


@dataclass(frozen=True, slots=True)
class Event:
    """One line for a person, without markup."""

    kind: EventKind
    text: str


Emit = Callable[[Event], None]


def step(emit: Emit, text: str) -> None:
    """Tell that something has begun."""
    emit(Event(EventKind.STEP, text))


def warn(emit: Emit, text: str) -> None:
    """Tell a fact that weakens what the user gets."""
    emit(Event(EventKind.WARNING, text))
