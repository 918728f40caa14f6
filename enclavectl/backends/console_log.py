"""A bounded console log: the newest output of an enclave in at most two files of a fixed size."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

# Many times the boot text of a real enclave; more would only fill the disk.
HALF_BYTES = 512 * 1024
_CHUNK_BYTES = 64 * 1024
_POLL_S = 0.1


class ConsoleLog:
    """The writer. When the current half is full it becomes the older half, whose content is dropped.

    What a full disk does not take is missing, and said to be once there is room again: whoever keeps an
    enclave must not fail because it printed something.
    """

    def __init__(self, path: Path, *, goes_on: bool = False) -> None:
        """Start an empty log that only this user can read, or go on with the one that is there."""
        self._path = path
        self._file = _open(path, 0 if goes_on else os.O_TRUNC)
        self._written = self._file.seek(0, os.SEEK_END)
        self._missing = 0

    def write(self, data: bytes) -> None:
        """Keep ``data``; of everything written, at most the newest ``2 * HALF_BYTES`` stay."""
        try:
            if self._written + len(data) > HALF_BYTES:
                self._turn()
            if self._missing and data:
                self._put(f"[{self._missing} bytes are missing here: the disk was full]\n".encode())
                self._missing = 0
            self._put(data[-HALF_BYTES:])
        except OSError:
            self._missing += len(data)

    def close(self) -> None:
        """Everything is in the files."""
        self._file.close()

    def _put(self, data: bytes) -> None:
        while data:
            count = self._file.write(data) or 0
            self._written += count
            data = data[count:]

    def _turn(self) -> None:
        scratch = self._path.with_name(f".{self._path.name}")
        # First what may fail: the old file goes on if there is no new one.
        newer = _open(scratch, os.O_TRUNC)
        self.close()
        self._path.replace(_older(self._path))
        scratch.replace(self._path)
        self._file, self._written = newer, 0


def read_console(path: Path, is_running: Callable[[], bool] | None = None) -> Iterator[bytes]:
    """Yield what the log holds, oldest first; with ``is_running``, also what comes until that says False."""
    older = _older(path)
    if older.exists():
        yield older.read_bytes()
    if not path.exists():
        return
    file: BinaryIO = path.open("rb")
    try:
        while True:
            # Asked before reading, so that the last words are not missed.
            running = is_running is not None and is_running()
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
            if not running:
                return
            time.sleep(_POLL_S)
            if (newer := _newer_half(file, path)) is not None:
                yield file.read()  # what the old half got between our last read and its end
                file.close()
                file = newer
    finally:
        file.close()


def _newer_half(file: BinaryIO, path: Path) -> BinaryIO | None:
    """Return the current half, if the writer has turned to a new one since ``file`` was opened."""
    try:
        current = path.open("rb")
    except FileNotFoundError:  # between the writer's two steps, or the enclave was terminated
        return None
    if os.path.samestat(os.fstat(file.fileno()), os.fstat(current.fileno())):
        current.close()
        return None
    return current


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _open(path: Path, flags: int) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    return os.fdopen(descriptor, "wb", buffering=0)
