"""The lifeline: a pipe from the command that starts an enclave to the enclave's keeper.

The pipe is open while the command lives. When it closes, however the command ended, the keeper ends the
enclave. A byte on the pipe releases the enclave, which then outlives the command.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress


class Lifeline:
    """The command's end of the pipe. Call exactly one of ``release`` and ``cut``, last."""

    def __init__(self, fd: int) -> None:
        """Own ``fd``, the write end of the pipe."""
        self._fd = fd

    def release(self) -> None:
        """Release the enclave, so that it outlives this command."""
        with suppress(BrokenPipeError):  # the keeper was killed; the next command that lists starts another
            os.write(self._fd, b"x")
        self.cut()

    def cut(self) -> None:
        """Close the pipe, which ends an enclave that was not released."""
        os.close(self._fd)


class LifelineEnd:
    """The keeper's end of the pipe. Poll ``fd``: it is readable after a release or a cut."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def is_released(self) -> bool:
        """Read the pipe once ``fd`` is readable: True after a release, False if the enclave must end."""
        return bool(os.read(self.fd, 1))

    def is_cut(self) -> bool:
        """Return whether the command is gone without a release. Nothing is read."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return any(event & select.POLLHUP and not event & select.POLLIN for _, event in poll.poll(0))

    def wait_cut(self, wake_fd: int | None = None) -> bool:
        """Wait until the command is gone, has released the enclave, or ``wake_fd`` is readable.

        Return whether the enclave was released. Nothing is read.
        """
        poll = select.poll()
        for fd in (self.fd, wake_fd):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        return any(fd == self.fd and event & select.POLLIN for fd, event in poll.poll())
