"""A results file: each answer is in it as soon as it has come, and a later run goes on where it ends.

A line is one ``write`` to the end of the file. A killed command leaves whole lines and at most one that is
cut, which the next run removes. The disk has the lines in groups: a power cut may take the last group.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.client.folders import STDIN
from enclavectl.client.pictures import Picture
from enclavectl.errors import HostError, PictureRefused, StateError, UsageError
from enclavectl.new_files import append_whole
from enclavectl.results.diagnosis import Result
from enclavectl.results.last_lines import LastLines
from enclavectl.results.rows import RowError, format_of, split_lines

# A group: an fsync takes some 5 ms on a disk, and a person accepts to ask for a second's pictures again.
_SYNC_LINES = 64
_SYNC_S = 1.0
_HINT = "name another file, or move this one away"


class ResultsFile:
    """The file, open and locked. ``answered`` and ``refused`` count pictures that were found in it."""

    def __init__(self, path: Path, *, retry_refused: bool = False) -> None:
        """Open ``path``, or make it with mode 0600; remove a last line that was cut.

        With ``retry_refused``, pictures that were refused count as not asked yet.

        Raises:
            UsageError: there is another file, or it cannot be read or written.
            StateError: another command writes to it.
        """
        self.path = path
        self.answered = 0
        self.refused = 0
        self._format = format_of(path)
        self._retry_refused = retry_refused
        self._last = LastLines()
        self._model: str | None = None
        self._header = b""
        self._unsynced = 0
        self._synced_at = time.monotonic()
        self._folder = _working_folder()
        self._descriptor = _open_locked(path)
        try:
            self._size = self._read()
            os.ftruncate(self._descriptor, self._size)
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def found(self) -> int:
        """The count of pictures whose results were found in the file."""
        return self.answered + self.refused

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(*() if kind is None else (HostError,)):  # an error under way is the one to tell
                self.sync()
            if self._size == 0 and _is_at(self.path, self._descriptor):
                self.path.unlink(missing_ok=True)  # still locked, so nobody has begun to write
        finally:
            os.close(self._descriptor)

    def has(self, name: str, picture: Picture | PictureRefused) -> bool:
        """Return whether the file has the result of a picture as it is now, and count it if so."""
        sha256 = picture.sha256 if isinstance(picture, Picture) else None
        key = self._key(name)
        if self._last.matches(key, _digest(sha256, is_refused=False)):
            self.answered += 1
            return True
        if not self._retry_refused and self._last.matches(key, _digest(sha256, is_refused=True)):
            self.refused += 1
            return True
        return False

    def require_room(self) -> None:
        """Refuse a disk that is full before an enclave is started; later on it ends the batch.

        Raises:
            UsageError: it is full.
        """
        try:
            disk = os.fstatvfs(self._descriptor)
        except OSError:
            return  # a write tells why
        # Some file systems do not know, and say that they have no blocks at all.
        if disk.f_blocks and not (disk.f_bavail if os.geteuid() else disk.f_bfree):
            raise UsageError(
                f"--results {self.path}: cannot be written ({os.strerror(errno.ENOSPC)})",
                hint="make room on the disk (df -h), or name another file",
            )

    def begin(self, enclave: VerifiedEnclave) -> None:
        """Write the header of a new file; check that an old one has answers of the same model.

        Raises:
            UsageError: it has another model's answers, or another model's labels.
            HostError: the disk does not take it.
        """
        card = enclave.card
        header = self._format.header([label.code for label in card.labels])
        is_same_model = self._model in (None, card.sha256)
        if self._size == 0:
            self._append(header)
        elif self._header.rstrip() != header.rstrip() or not is_same_model:  # editors write CRLF
            of = "other labels" if is_same_model else f"the model {self._model:.16}..."
            raise UsageError(
                f"--results {self.path}: expected answers of the model {card.sha256[:16]}..., which the "
                f"enclave has, found those of {of}",
                hint=_HINT,
                code="results-model",
            )

    def add(self, result: Result, enclave: VerifiedEnclave, *, top: int | None) -> None:
        """Write a result. When this returns, no end of this process takes it away.

        Raises:
            HostError: the disk does not take it; the file ends with the line before.
        """
        self._append(self._format.encode(result, enclave, top=top))
        self._unsynced += 1
        if self._unsynced >= _SYNC_LINES or time.monotonic() - self._synced_at >= _SYNC_S:
            self.sync()

    def _append(self, line: bytes) -> None:
        try:
            append_whole(self._descriptor, line, size=self._size, is_synced=False)
        except OSError as exc:
            raise self._failed(exc) from exc
        self._size += len(line)

    def sync(self) -> None:
        """Give the disk what was written.

        Raises:
            HostError: it does not take it, or the file was removed.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as exc:
            raise self._failed(exc) from exc
        if self._size and os.fstat(self._descriptor).st_nlink == 0:
            raise HostError(
                f"{self.path}: was removed while answers were written to it; they are gone",
                hint="repeat the command: it begins a new file",
                code="results-file",
            )
        self._unsynced, self._synced_at = 0, time.monotonic()

    def _failed(self, exc: OSError) -> HostError:
        return HostError(
            f"{self.path}: cannot be written ({exc.strerror})",
            hint="make room on the disk (df -h), then repeat the command: it goes on with what is missing",
            code="results-file",
        )

    def _read(self) -> int:
        """Read what an earlier run has written; return the size of its whole lines.

        Raises:
            UsageError: a line is none of ours.
        """
        size = number = 0
        try:
            with os.fdopen(os.dup(self._descriptor), "rb") as file:
                for line, has_end in split_lines(self._format, file):
                    number += 1
                    self._take(line, is_first=number == 1, has_end=has_end)
                    size += len(line) if has_end else 0
        except RowError as exc:
            raise UsageError(
                f"--results {self.path}: expected results of an earlier run, found something else in line "
                f"{max(number, 1)} ({exc})",
                hint=_HINT,
                code="results-foreign",
            ) from exc
        return size

    def _take(self, line: bytes, *, is_first: bool, has_end: bool) -> None:
        if is_first and not self._format.is_start(line):
            raise RowError("the first line is another program's")
        if not has_end:
            return
        if is_first and self._format.header(()):
            self._header = line
            return
        row = self._format.parse(line)
        self._model = row.model_sha256
        self._last.put(self._key(row.image), _digest(row.sha256, is_refused=row.error is not None))

    def _key(self, name: str) -> bytes:
        """Return what a picture is known by: its path, however it is spelled.

        Where ``..`` behind a link makes one of two files, their bytes tell them apart.
        """
        # Not Path, which takes longer than all else that is done with a line of a long file.
        path = name if name == STDIN else os.path.normpath(os.path.join(self._folder, name))  # noqa: PTH118
        return path.encode(errors="surrogatepass")  # names need not be Unicode, and lines may be edited


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""  # it was removed: relative names lead nowhere


def _open_locked(path: Path) -> int:
    while True:
        descriptor = _open(path)
        try:
            _lock(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # a command that got nowhere removed it between our open and our lock


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return path.lstat().st_ino == os.fstat(descriptor).st_ino
    except OSError:
        return False


def _open(path: Path) -> int:
    # O_NONBLOCK: opening a FIFO without a reader would block forever. O_NOFOLLOW: a link may lead to a file
    # whose owner expects no lines at its end.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except (OSError, ValueError) as exc:
        is_link = getattr(exc, "errno", None) == errno.ELOOP
        reason = "it is a symbolic link" if is_link else getattr(exc, "strerror", None) or str(exc)
        raise UsageError(f"--results {path}: cannot be written ({reason})", hint=_HINT) from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"--results {path}: expected a file, found a pipe or a device", hint=_HINT)
    return descriptor


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        raise StateError(
            f"--results {path}: another command writes to this file",
            hint="wait for it, or name another file",
            code="results-in-use",
        ) from exc


def _digest(sha256: str | None, *, is_refused: bool) -> bytes:
    return f"{is_refused:d}{sha256}".encode()
