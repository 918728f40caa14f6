"""Signals that end a command like Ctrl-C, so that it cleans up first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def ending_as_interrupted() -> Iterator[None]:
    """Make SIGTERM, and SIGHUP of a terminal that closes, raise ``KeyboardInterrupt`` within the block.

    By default they would end the process at once: it would leave its temporary files, which may have
    gigabytes, and would not say what it had done so far. A signal that the caller ignores, as nohup does,
    stays ignored.
    """
    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class InterruptGate:
    """While it is entered, an interruption waits: a block is whole or not begun."""

    def __init__(self) -> None:
        """Use ``gating_interrupts``."""
        self._is_entered = self._is_held = False

    def __enter__(self) -> None:
        self._is_entered = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_entered = False
        if self._is_held and kind is None:
            raise KeyboardInterrupt

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Raise ``KeyboardInterrupt`` for a signal, or hold it back."""
        if not self._is_entered:
            raise KeyboardInterrupt
        self._is_held = True


@contextmanager
def gating_interrupts() -> Iterator[InterruptGate]:
    """Let the gate that is yielded decide when a signal raises ``KeyboardInterrupt``.

    Signals that are ignored, or that end the process, are left as they are. For many blocks one after the
    other: to change handlers for each takes as long as writing a line of results.
    """
    gate, before = InterruptGate(), {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if callable(signal.getsignal(number)):
            before[number] = signal.signal(number, gate.handle)
    try:
        yield gate
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def holding_interrupts_back() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` for a signal only when the block is through."""
    with gating_interrupts() as gate, gate:
        yield


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
