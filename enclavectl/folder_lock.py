"""One command at a time reads, changes and writes a file that several commands change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enclavectl.errors import HostError


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder for the block; wait for it, since others hold it for milliseconds.

    The lock is on the folder itself: nothing of it is left there. Not on the file, which each change replaces
    by a new one.

    Raises:
        HostError: there is no such folder, or its file system has no locks.
    """
    import fcntl  # noqa: PLC0415 - of POSIX alone, and the client's half imports everywhere

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise HostError(f"{folder}: cannot open this folder ({exc.strerror})") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as exc:
        os.close(descriptor)
        raise HostError(f"{folder}: cannot lock this folder ({exc.strerror})") from exc
    try:
        yield
    finally:
        os.close(descriptor)
