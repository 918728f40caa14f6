"""Files that are new or not written at all, and lines that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.files import kind_of, stage_file, status_at

MOVE_HINT = "name another file, or move this one away"


def require_new(option: str, path: Path, *, hint: str = MOVE_HINT, code: str | None = None) -> None:
    """Refuse to write over anything; ``hint`` and ``code`` are of the error.

    Raises:
        UsageError: something is at ``path``.
    """
    found = status_at(path, follows_links=False)
    if found is not None:
        raise UsageError(
            f"{option} {path}: expected nothing there, found {kind_of(found.st_mode)}", hint=hint, code=code
        )


def write_new(path: Path, parts: Iterable[bytes], *, mode: int = 0o600) -> None:
    """Write a new file, whole or not at all.

    Raises:
        HostError: something is there, or the file system refused.
    """
    with stage_file(path.parent, mode=mode) as staged:
        for part in parts:
            staged.file.write(part)
        staged.commit_new(path)


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of the data: a full disk takes the first part, and refuses the next.

    Raises:
        OSError: the file system refused.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def append_whole(descriptor: int, data: bytes, *, size: int, is_synced: bool = True) -> None:
    """Append to a file of ``size`` bytes, and by default wait for the disk. What fails leaves nothing behind.

    Raises:
        OSError: the file system refused.
    """
    try:
        write_whole(descriptor, data)
        if is_synced:
            os.fsync(descriptor)
    except OSError:
        with suppress(OSError):  # an append-only file
            os.ftruncate(descriptor, size)
        raise
