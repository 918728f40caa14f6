"""A bounded console log: the newest output of an enclave in at most two files of a fixed size."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

# Many times the boot messages of a real enclave; more would only fill the disk.
HALF_BYTES = 512 * 1024
_CHUNK_BYTES = 64 * 1024  # a read of the log for a terminal; memory stays small
_POLL_S = 0.1  # while a console is followed: a person does not notice the delay


class ConsoleLog:
    """The writer of a log of two halves. A full current half replaces the older half.

    Output that a full disk does not take is lost, and the log notes the loss once there is room again: the
    keeper of an enclave must not fail because the enclave prints.
    """

    def __init__(self, path: Path, *, goes_on: bool = False) -> None:
        """Create an empty log that only this user can read, or with ``goes_on`` continue an existing one."""
        self._path = path
        self._file = _open(path, 0 if goes_on else os.O_TRUNC)
        self._written = self._file.seek(0, os.SEEK_END)
        self._missing = 0

    def write(self, data: bytes) -> None:
        """Append ``data``; the log keeps at most the newest ``2 * HALF_BYTES`` bytes."""
        try:
            if self._written + len(data) > HALF_BYTES:
                self._rotate()
            if self._missing and data:
                self._put(f"[{self._missing} bytes are missing here: the disk was full]\n".encode())
                self._missing = 0
            self._put(data[-HALF_BYTES:])
        except OSError:
            self._missing += len(data)

    def close(self) -> None:
        """Close the files. All output is in them already."""
        self._file.close()

    def _put(self, data: bytes) -> None:
        while data:
            count = self._file.write(data) or 0
            self._written += count
            data = data[count:]

    def _rotate(self) -> None:
        scratch = self._path.with_name(f".{self._path.name}")
        # Open the new file first: if that fails, the old file stays in use.
        newer = _open(scratch, os.O_TRUNC)
        self.close()
        self._path.replace(_older(self._path))
        scratch.replace(self._path)
        self._file, self._written = newer, 0


def read_console(path: Path, is_running: Callable[[], bool] | None = None) -> Iterator[bytes]:
    """Yield the log's content, oldest first; with ``is_running``, also new output until it returns False."""
    older = _older(path)
    if older.exists():
        yield older.read_bytes()
    if not path.exists():
        return
    file: BinaryIO = path.open("rb")
    try:
        while True:
            # Ask before reading, so that the last output is not missed.
            running = is_running is not None and is_running()
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
            if not running:
                return
            time.sleep(_POLL_S)
            if (newer := _newer_half(file, path)) is not None:
                yield file.read()  # the output between our last read and the end of the old half
                file.close()
                file = newer
    finally:
        file.close()


def _newer_half(file: BinaryIO, path: Path) -> BinaryIO | None:
    """Open the current half if the writer has started a new one since ``file`` was opened."""
    try:
        current = path.open("rb")
    except FileNotFoundError:  # between the writer's two renames, or the enclave was terminated
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
