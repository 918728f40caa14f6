"""Standard output that its reader has closed, as `head` does once it has its lines."""

from __future__ import annotations

import os
import select
import sys
from typing import TextIO


def is_output_closed() -> bool:
    """Return whether nobody can read standard output any more."""
    watch = select.poll()
    watch.register(sys.stdout, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in watch.poll(0))


def discard_output(stream: TextIO) -> None:
    """Write nowhere from now on, so that the interpreter does not report a closed pipe when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
