"""Files that carry a mark of who wrote them, in a folder where others may have files of the same names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.files import make_folder, read_bounded, status_at, write_atomic

_MAX_BYTES = 1 << 18
# What a form wants before the mark: the line of a script, of JSON, or the parts before a script of user data.
# Elsewhere in a file the mark is somebody's copy of ours, below words of their own.
_HEAD = rb'(?:#!.*\n|\{.*\n\{"comment": "|MIME-Version: (?s:.*?)\n#!.*\n)?'


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
    """Return whether there is a file that begins with that mark, as far as its form lets it."""
    try:
        text = read_bounded(path, _MAX_BYTES, what="written file")
    except UsageError:
        return False
    return re.match(_HEAD + re.escape(mark.encode()), text) is not None
