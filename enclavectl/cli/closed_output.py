"""Standard output that its reader has closed, as `head` does once it has its lines."""

from __future__ import annotations

import errno
import os
import select
import sys
from typing import TextIO


def says_closed(exc: Exception) -> bool:
    """Return whether a write failed because its reader is gone: of a pipe, or of a terminal that hung up."""
    return isinstance(exc, BrokenPipeError) or (isinstance(exc, OSError) and exc.errno == errno.EIO)


def is_output_closed() -> bool:
    """Return whether nobody can read standard output any more."""
    watch = select.poll()
    watch.register(sys.stdout, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in watch.poll(0))


def discard_output(stream: TextIO) -> None:
    """Write nowhere from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def discard_unwritable() -> None:
    """Discard what cannot be written: the interpreter would fail at its own end, with exit code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            discard_output(stream)
