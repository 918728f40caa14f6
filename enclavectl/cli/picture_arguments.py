"""The pictures that a command line names."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from enclavectl.cli.screen import Screen
from enclavectl.client.pictures import STDIN, collect


def collect_pictures(screen: Screen, arguments: Sequence[str]) -> list[str]:
    """Return the names to read, in order; a person at a terminal is told that the command waits for input.

    Raises:
        UsageError: a folder has no picture, or standard input is named twice.
    """
    names = collect(arguments)
    if STDIN in names and sys.stdin.isatty():
        screen.note("reading a picture from standard input; Ctrl-D ends it")
    return names
