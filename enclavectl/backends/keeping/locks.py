"""The lock in an enclave's folder, which says whether the process that keeps the enclave lives.

The kernel drops it however the keeper ends, and no other process can have it by accident, which a process id
allows.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock_enclave(folder: Path) -> int:
    """Take the enclave's lock and return the descriptor that holds it, for the keeper to inherit.

    Raises:
        OSError: somebody else holds it (BlockingIOError), or the folder cannot be written.
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
    """Keep every other such block on the same folder out: for choosing names and making the root."""
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
