"""Image files as they are opened: what is wrong with one is said with its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from enclavectl.eif.errors import naming
from enclavectl.errors import HostError
from enclavectl.files import open_regular


@contextmanager
def open_image(path: Path) -> Iterator[BinaryIO]:
    """Open an image file for reading; an ``EifError`` of the block says that it is about this file.

    Raises:
        UsageError: there is none, or it is no regular file.
        HostError: reading it fails in the block.
    """
    with open_readable(path) as file, naming(path):
        yield file


@contextmanager
def open_readable(path: Path) -> Iterator[BinaryIO]:
    """Open an image file for a block that reads others, too: an ``EifError`` passes as it is.

    Raises:
        UsageError: there is none, or it is no regular file.
        HostError: reading it fails in the block.
    """
    try:
        with open_regular(path, what="image file", hint_if_missing="enclavectl build makes one") as file:
            yield file
    except OSError as exc:
        raise HostError(f"{path}: reading failed ({exc.strerror or exc})") from exc
