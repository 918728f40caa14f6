"""The lifeline: a pipe from the command that starts an enclave to the enclave's keeper.

While the command lives, the pipe is open. When it closes, however the command ended, the keeper ends the
enclave; a byte on it lets the enclave live on without the command.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress


class Lifeline:
    """The command's end of the pipe. Exactly one of ``release`` and ``cut`` ends its use."""

    def __init__(self, fd: int) -> None:
        """``fd`` is the write end, which this object closes."""
        self._fd = fd

    def release(self) -> None:
        """Let the enclave live on."""
        with suppress(BrokenPipeError):  # its keeper was killed; the next command that lists starts another
            os.write(self._fd, b"x")
        self.cut()

    def cut(self) -> None:
        """Close the pipe: an enclave that was not released before ends."""
        os.close(self._fd)


class LifelineEnd:
    """The keeper's end of the pipe. ``fd`` is for polling: it is readable once there is something to do."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def is_released(self) -> bool:
        """Read what made ``fd`` readable: True if the enclave may live on, False if it has to end."""
        return bool(os.read(self.fd, 1))

    def is_cut(self) -> bool:
        """Return whether the command is gone and has not released the enclave. Nothing is read."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return any(event & select.POLLHUP and not event & select.POLLIN for _, event in poll.poll(0))

    def wait_cut(self, wake_fd: int | None = None) -> None:
        """Return once the command is gone, or ``wake_fd`` is readable; both may have happened long ago."""
        poll = select.poll()
        for fd in (self.fd, wake_fd):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        poll.poll()
