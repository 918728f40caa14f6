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
    """The writer. When the current half is full it becomes the older half, whose content is dropped."""

    def __init__(self, path: Path) -> None:
        """Start an empty log that only this user can read."""
        self._path = path
        self._file = _open_new(path)
        self._written = 0

    def write(self, data: bytes) -> None:
        """Keep ``data``; of everything written, at most the newest ``2 * HALF_BYTES`` stay."""
        if self._written + len(data) > HALF_BYTES:
            self.close()
            self._path.replace(_older(self._path))
            self._file = _open_new(self._path)
            self._written = 0
        self._file.write(data[-HALF_BYTES:])
        self._written += len(data)

    def close(self) -> None:
        """Everything is in the files."""
        self._file.close()


def read_console(path: Path, is_running: Callable[[], bool] | None = None) -> Iterator[bytes]:
    """What the log holds, oldest first; with ``is_running``, also what comes until that says False."""
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
    """The current half, if the writer has turned to a new one since ``file`` was opened."""
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


def _open_new(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb", buffering=0)
