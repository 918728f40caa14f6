"""The pictures that a command line names."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from enclavectl.cli.screen import Screen
from enclavectl.client.folders import STDIN, Collection, collect


def collect_pictures(screen: Screen, arguments: Sequence[str], *, recursive: bool) -> Collection:
    """Return the names to read, in order.

    Notes tell a person which files of folders were left out, and at a terminal that the command waits for
    input.

    Raises:
        UsageError: a folder has no picture, or standard input is named twice.
    """
    found = collect(arguments, recursive=recursive)
    for folder in found.left_out:
        if folder:
            advice = "; --recursive looks into subfolders" if folder.subfolders and not recursive else ""
            screen.note(f"{folder.folder}: left out {folder.words()}{advice}")
    if STDIN in found.names and sys.stdin.isatty():
        screen.note("reading a picture from standard input; Ctrl-D ends it")
    return found
