"""Temporary files and folders of a build, beside its output: that file system needs the room anyway."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from enclavectl.errors import HostError
from enclavectl.scratch import temporary_folder


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Create a folder in ``folder``, and delete it with its content at the end of the block.

    Raises:
        HostError: it cannot be created, or a write in the block failed.
    """
    try:
        with temporary_folder(folder) as path:
            yield path
    except OSError as exc:
        raise HostError(f"{folder}: cannot write ({exc.strerror or exc})", hint=f"df -h {folder}") from exc


@contextmanager
def scratch_file(folder: Path) -> Iterator[BinaryIO]:
    """Open a named temporary file in ``folder``, and delete it at the end of the block.

    Raises:
        HostError: it cannot be created, or a write in the block failed.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=".enclavectl-", suffix=".tmp", dir=folder) as file:
            yield cast("BinaryIO", file)
    except OSError as exc:
        raise HostError(f"{folder}: cannot write ({exc.strerror or exc})", hint=f"df -h {folder}") from exc
