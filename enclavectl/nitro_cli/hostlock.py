"""Two locks that all users of a host share: one for launches, one for queries to the enclaves' daemons.

Both are ``flock`` on folders that nitro-cli itself needs, opened for reading. So we put no file there
(``terminate-enclave --all`` deletes unknown files), any user who may use nitro-cli can take the locks, and
the kernel releases them however their holder ends.

*Launches* (the logs folder): a booting enclave reports on the one vsock port 9000, so a concurrent launch
fails. A launch also asks every enclave for its name, so it must not begin before the previous enclave is
settled. *Queries* (the sockets folder): the first ``describe-enclaves`` after a launch waits until the image
is hashed. A concurrent query gives up after 3 s, which ends the enclave. So there is only one query at a
time.

There are two locks so that ``list`` need not wait for a boot of three minutes. If NITRO_CLI_LOGS_PATH and
NITRO_CLI_SOCKETS_PATH name one folder, both are one lock, and ``list`` does wait.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from enclavectl.errors import HostError, StateError
from enclavectl.progress import Progress

# flock has no time limit, so we poll: often enough that the delay is not noticeable.
_POLL_S = 0.05
# A describe alone takes less than this, so shorter waits are not reported.
_TELL_AFTER_S = 0.3
# Often enough to show that the wait continues, seldom enough not to fill a screen during a boot of minutes.
_TELL_EVERY_S = 30.0


@contextmanager
def host_lock(
    folder: Path,
    what: str,
    progress: Progress,
    *,
    gives_up: Callable[[], bool] = lambda: False,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[int]:
    """Hold the lock on ``folder`` for the block; yield its descriptor.

    A longer wait is reported, and again every half minute. If a process inherits the descriptor, the lock is
    held until that process has ended as well. The wait ends when ``gives_up`` returns True. ``on_wait`` is
    called once, after the first report.

    Raises:
        StateError: ``gives_up`` ended the wait.
        HostError: the folder is missing, or this user may not open it: nitro-cli is not set up.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise HostError(
            f"{folder}: expected the folder of nitro-cli, found none that we may open ({exc.strerror})",
            hint="this host is not set up for enclaves: enclavectl setup, or enclavectl doctor",
            code="nitro-not-set-up",
        ) from exc
    try:
        _wait(fd, what, progress, gives_up, on_wait)
        yield fd
    finally:
        os.close(fd)


def is_same_folder(one: Path, other: Path) -> bool:
    """Return whether both paths lead to one folder, links resolved."""
    try:
        return one.samefile(other)
    except OSError:
        return False  # opening the missing one reports it


class WaitNotes:
    """The notes about one wait: the first one after a moment, then one each half minute."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next_s = _TELL_AFTER_S

    def note_at(self, waited_s: float) -> str | None:
        """Return the note for ``waited_s`` seconds of waiting, or None if it is too early for one."""
        if waited_s < self._next_s:
            return None
        self._next_s = waited_s + _TELL_EVERY_S
        return f"waiting for another {self._what} on this host ({waited_s:.0f} s)"


def _wait(
    fd: int, what: str, progress: Progress, gives_up: Callable[[], bool], on_wait: Callable[[], None]
) -> None:
    start = time.monotonic()
    notes = WaitNotes(what)
    is_told = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if gives_up():
                raise StateError(f"its end was asked for while it waited for another {what}") from None
            if (note := notes.note_at(time.monotonic() - start)) is not None:
                progress.note(note)
                if not is_told:
                    on_wait()
                is_told = True
            time.sleep(_POLL_S)
        else:
            return
