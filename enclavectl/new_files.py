"""Files that are new, or take the place of their like only, and lines that are whole or not there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.files import kind_of, open_regular, stage_file, status_at

MOVE_HINT = "name another file, or move this one away"
# Each mark is one of the first lines of its file.
_MARK_WITHIN_BYTES = 1024


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


def require_own_or_new(
    option: str,
    path: Path,
    mark: bytes,
    what: str,
    *,
    within: int = _MARK_WITHIN_BYTES,
    hint: str = MOVE_HINT,
) -> None:
    """Refuse to write over a file that is not ``what``, which has ``mark`` in its first ``within`` bytes.

    Raises:
        UsageError: there is such a file, or something else than a file.
    """
    head = read_head(option, path, what, within=within)
    if head and mark not in head:
        raise UsageError(
            f"{option} {path}: expected nothing there or {what}, found another file",
            hint=hint,
            code="foreign-file",
        )


def read_head(option: str, path: Path, what: str, *, within: int = _MARK_WITHIN_BYTES) -> bytes:
    """Return the first bytes of a file that ``what`` may take the place of; nothing where no file is.

    Raises:
        UsageError: there is something else than a file, or it cannot be read.
    """
    found = status_at(path)
    if found is None:
        return b""
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(
            f"{option} {path}: expected nothing there or {what}, found {kind_of(found.st_mode)}",
            hint=MOVE_HINT,
        )
    try:
        with open_regular(path) as file:
            return file.read(within)
    except UsageError as exc:
        raise UsageError(f"{option} {exc.message}", hint=MOVE_HINT) from exc
    except OSError as exc:
        raise UsageError(f"{option} {path}: cannot be read ({exc.strerror})", hint=MOVE_HINT) from exc


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
