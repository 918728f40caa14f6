"""The lock in an enclave's folder, which its keeper holds as long as it lives.

The kernel releases it however the keeper ends. A process id could be reused by another process; the lock
cannot.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# A local enclave ends within a few hundredths of a second, and a check costs almost nothing.
_POLL_S = 0.01


def lock_enclave(folder: Path) -> int:
    """Take the enclave's lock and return the descriptor that holds it, for the keeper to inherit.

    Raises:
        OSError: another process holds it (BlockingIOError), or the folder cannot be written.
    """
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_kept(folder: Path) -> bool:
    """Return whether a keeper holds the enclave's lock."""
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on the folder for the block, to choose names or to make the root."""
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def wait_until_released(
    folder: Path, bound_s: float, on_wait: Callable[[float], None] = lambda _: None
) -> bool:
    """Wait until no keeper holds the enclave's lock; return False if one still does after ``bound_s``
    seconds.

    ``on_wait`` is called before each pause with the elapsed seconds.
    """
    start = time.monotonic()
    while is_kept(folder):
        if (elapsed_s := time.monotonic() - start) > bound_s:
            return False
        on_wait(elapsed_s)
        time.sleep(_POLL_S)
    return True
