"""Standard output that its reader has closed, as `head` does once it has its lines, or whose disk is full."""

from __future__ import annotations

import errno
import os
import select
import sys
from typing import TextIO

from enclavectl.errors import OutputFull

# The errors of a full disk: no space, quota exceeded, file size limit.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Loss:
    """What the process has lost of its one standard output; ``reason`` is the system's."""

    def __init__(self) -> None:
        # No dataclass, whose module would take a tenth of the time of a help page to load.
        self.reason: str | None = None


_loss = _Loss()


def says_closed(exc: Exception) -> bool:
    """Return whether a write failed because its reader is gone: of a pipe, or of a terminal that hung up."""
    return isinstance(exc, BrokenPipeError) or (isinstance(exc, OSError) and exc.errno == errno.EIO)


def is_output_closed() -> bool:
    """Return whether nobody can read standard output any more."""
    watch = select.poll()
    watch.register(sys.stdout, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in watch.poll(0))


def says_full(exc: Exception) -> bool:
    """Return whether a write failed because the disk is full."""
    return isinstance(exc, OSError) and exc.errno in _FULL


def reason_of(exc: OSError) -> str:
    """Return the system's words for a failed write."""
    return exc.strerror or str(exc)


def lose_output(exc: OSError) -> None:
    """Write nowhere from now on, since the disk is full. ``check_output`` tells the end of the command."""
    _loss.reason = reason_of(exc)
    discard_output(sys.stdout)


def check_output(rest: str, *, hint: str) -> None:
    """Check that standard output took all that was written; ``rest`` and ``hint`` are of the error.

    Raises:
        OutputFull: it did not, and the command went on. It is raised once.
    """
    reason, _loss.reason = _loss.reason, None
    if reason is not None:
        raise OutputFull(reason, rest, hint=hint)


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
