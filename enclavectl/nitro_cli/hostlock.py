"""Two locks that every user of a host shares: one for launches, one for talking to the enclaves' processes.

Both are ``flock`` on folders that nitro-cli itself needs, opened for reading: no file of ours is in them
(``terminate-enclave --all`` deletes what it does not know), any user who may use nitro-cli can take them,
and the kernel drops them however their holder ends.

*Launches* (the logs folder): a booting enclave reports on the one vsock port 9000, so a second launch fails;
and a launch asks every enclave for its name, so it must not begin before the one before it is settled.
*Talks* (the sockets folder): the first ``describe-enclaves`` after a launch waits until the image is hashed,
and another talk meanwhile gives up after 3 s, which ends the enclave. A talk never happens twice at once.
They are two so that ``list`` need not wait for a boot of three minutes. Where NITRO_CLI_LOGS_PATH and
NITRO_CLI_SOCKETS_PATH name one folder, they are one lock, and ``list`` does wait.
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

# flock has no time limit, so the lock is tried again and again: often enough that nobody feels the pause.
_POLL_S = 0.05
# A describe takes less than this where no other waits; shorter waits need no word.
_TELL_AFTER_S = 0.3
# Often enough to show that the wait goes on, seldom enough not to fill a screen during a boot of minutes.
_TELL_EVERY_S = 30.0


@contextmanager
def host_lock(
    folder: Path, what: str, progress: Progress, *, gives_up: Callable[[], bool] = lambda: False
) -> Iterator[int]:
    """Keep everybody else on this host out of such a block on ``folder``. Yields the descriptor of the lock.

    A wait of more than a moment is told, again every half minute. Handing the descriptor to a process
    keeps the lock until that has ended, too. The wait ends when ``gives_up`` says so.

    Raises:
        StateError: it gave up.
        HostError: there is no such folder, or this user may not look into it: nitro-cli is not set up.
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
        _wait(fd, what, progress, gives_up)
        yield fd
    finally:
        os.close(fd)


def is_same_folder(one: Path, other: Path) -> bool:
    """Return whether both paths lead to one folder, as links may."""
    try:
        return one.samefile(other)
    except OSError:
        return False  # whoever opens the missing one says so


class WaitNotes:
    """The notes about one wait: none in the first moment, then one each half minute."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next_s = _TELL_AFTER_S

    def note_at(self, waited_s: float) -> str | None:
        """Return what to tell after ``waited_s`` seconds, or None where it is too early."""
        if waited_s < self._next_s:
            return None
        self._next_s = waited_s + _TELL_EVERY_S
        return f"waiting for another {self._what} on this host ({waited_s:.0f} s)"


def _wait(fd: int, what: str, progress: Progress, gives_up: Callable[[], bool]) -> None:
    start = time.monotonic()
    notes = WaitNotes(what)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if gives_up():
                raise StateError(f"its end was asked for while it waited for another {what}") from None
            if (note := notes.note_at(time.monotonic() - start)) is not None:
                progress.note(note)
            time.sleep(_POLL_S)
        else:
            return
