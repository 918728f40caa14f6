"""Image files as commands read them: opened, read strictly, and with progress on large ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

    from enclavectl.cli.screen import Screen
    from enclavectl.eif.examine import Image
    from enclavectl.eif.measure import OnBytes

# Below this a file is measured before a person could read a progress line.
_PROGRESS_FROM = 64 << 20


@contextmanager
def open_image(path: Path) -> Iterator[BinaryIO]:
    """An image file, open for reading; an ``EifError`` of the block says that it is about this file.

    Raises:
        UsageError: there is none, or it is no regular file.
        HostError: reading it fails in the block.
    """
    from enclavectl.eif.errors import naming

    with _open(path) as file, naming(path):
        yield file


@contextmanager
def read_sound(path: Path) -> Iterator[Image]:
    """An image that the strict reader accepts; its file stays open for the block.

    Raises:
        UsageError: there is none, or it breaks a rule.
        HostError: reading it fails, also in the block.
    """
    from enclavectl.eif.errors import naming
    from enclavectl.eif.examine import read_image

    with _open(path) as file:
        with naming(path):
            image = read_image(file)
        yield image  # outside: what the block reads may be another file


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    from enclavectl.errors import HostError
    from enclavectl.files import open_regular

    try:
        with open_regular(path, what="image file") as file:
            yield file
    except OSError as exc:
        raise HostError(f"{path}: reading failed ({exc.strerror or exc})") from exc


@contextmanager
def progress(screen: Screen, what: str, path: Path) -> Iterator[OnBytes]:
    """Counts bytes on standard error where a person watches and the file is large."""
    try:
        total = path.stat().st_size
    except OSError:
        total = 0  # opening it says what is wrong
    done = shown = 0
    is_watched = sys.stderr.isatty() and not screen.as_json and total >= _PROGRESS_FROM

    def on_bytes(count: int) -> None:
        nonlocal done, shown
        done += count
        percent = min(100, 100 * done // total) if total else 0
        if is_watched and percent != shown:
            shown = percent
            sys.stderr.write(f"\r{what} {percent} %")

    try:
        yield on_bytes
    finally:
        if is_watched:
            sys.stderr.write("\r\x1b[K")
