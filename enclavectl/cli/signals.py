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


@contextmanager
def holding_interrupts_back() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` for a signal only when the block is through: it is whole or not begun.

    Signals that are ignored, or that end the process, are left as they are.
    """
    held: list[int] = []
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if callable(signal.getsignal(number)):
            before[number] = signal.signal(number, lambda found, _frame: held.append(found))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        raise KeyboardInterrupt


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
