"""Temporary files and folders of a build: beside its output, where there must be room anyway."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from enclavectl.errors import HostError


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder in ``folder``, gone with all that is in it at the end of the block.

    Raises:
        HostError: ``folder`` does not take it, or a write in the block failed.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".enclavectl-", dir=folder) as path:
            yield Path(path)
    except OSError as exc:
        raise HostError(f"{folder}: cannot write ({exc.strerror or exc})", hint=f"df -h {folder}") from exc


@contextmanager
def scratch_file(folder: Path) -> Iterator[BinaryIO]:
    """An open file with a name, gone at the end of the block, however that ends.

    Raises:
        HostError: the folder does not take files, or a write in the block failed.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=".enclavectl-", suffix=".tmp", dir=folder) as file:
            yield cast("BinaryIO", file)
    except OSError as exc:
        raise HostError(f"{folder}: cannot write ({exc.strerror or exc})", hint=f"df -h {folder}") from exc
