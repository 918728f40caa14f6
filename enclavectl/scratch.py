"""Folders for the time of a block, beside what is made in them: that file system needs the room anyway."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in ``parent``, for its owner only, and delete it with its content after the block.

    Its name is drawn before it is made. ``tempfile`` learns it afterwards: an interruption that comes between
    leaves the folder.

    Raises:
        OSError: it cannot be made.
    """
    path = parent / f".enclavectl-{os.urandom(8).hex()}"
    try:
        path.mkdir(mode=0o700)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
