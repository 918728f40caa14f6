"""Files that carry a mark of who wrote them, in a folder where others may have files of the same names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.files import make_folder, read_bounded, status_at, write_atomic

_MAX_BYTES = 1 << 18


def write_marked(folder: Path, files: Mapping[str, str], mark: str) -> None:
    """Write each file into the folder, or none if a file there lacks the mark.

    Raises:
        HostError: the folder cannot be made or written.
        UsageError: a file of one of these names is somebody else's.
    """
    make_folder(folder)
    for path in (folder / name for name in files):
        if status_at(path, follows_links=False) is not None and not is_marked(path, mark):
            raise UsageError(
                f"{path}: expected a file that enclavectl wrote, found another",
                hint="move it away, or name another folder",
                code="foreign-file",
            )
    for name, text in files.items():
        write_atomic(folder / name, text.encode(), mode=0o644)


def is_marked(path: Path, mark: str) -> bool:
    """Return whether there is a file with that mark."""
    try:
        return mark.encode() in read_bounded(path, _MAX_BYTES, what="written file")
    except UsageError:
        return False
