"""Image files for commands: opened, read strictly, with progress on large ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from enclavectl.cli.screen import Screen
from enclavectl.eif.errors import naming
from enclavectl.eif.examine import Image, read_image
from enclavectl.eif.measure import OnBytes
from enclavectl.errors import HostError
from enclavectl.files import open_regular

# Bytes. A smaller file is measured before a person could read a progress line.
_PROGRESS_FROM = 64 << 20

# The exit code for an image that breaks a rule, as for any unusable input.
EXIT_UNSOUND = 2

ImageFile = Annotated[Path, typer.Argument(metavar="FILE", help="An enclave image file (EIF).")]
ImageFiles = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Enclave image files (EIF).")]


@contextmanager
def open_image(path: Path) -> Iterator[BinaryIO]:
    """Open an image file for reading; an ``EifError`` of the block says that it is about this file.

    Raises:
        UsageError: there is none, or it is no regular file.
        HostError: reading it fails in the block.
    """
    with _open(path) as file, naming(path):
        yield file


@contextmanager
def read_sound(path: Path) -> Iterator[Image]:
    """Read an image that the strict reader accepts; its file stays open for the block.

    Raises:
        UsageError: there is none, or it breaks a rule.
        HostError: reading it fails, also in the block.
    """
    with _open(path) as file:
        with naming(path):
            image = read_image(file)
        yield image  # outside of the block above: the caller may read another file


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        with open_regular(path, what="image file") as file:
            yield file
    except OSError as exc:
        raise HostError(f"{path}: reading failed ({exc.strerror or exc})") from exc


@contextmanager
def progress(screen: Screen, what: str, path: Path) -> Iterator[OnBytes]:
    """Count bytes on the screen's status line if the file is large."""
    try:
        total = path.stat().st_size
    except OSError:
        total = 0  # opening it reports what is wrong
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        if total >= _PROGRESS_FROM:
            screen.count(f"{what} {path.name}", min(done, total) >> 20, total >> 20, "MiB")

    try:
        yield on_bytes
    finally:
        screen.end_count()
