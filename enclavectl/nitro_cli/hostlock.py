"""Two locks that every user of a host shares: one for launches, one for talking to the enclaves' processes.

Both are ``flock`` on folders that nitro-cli itself needs, opened for reading: no file of ours is in them
(``terminate-enclave --all`` deletes what it does not know), any user who may use nitro-cli can take them,
and the kernel drops them however their holder ends.

*Launches* (the logs folder): a booting enclave reports on the one vsock port 9000, so a second launch fails;
and a launch asks every enclave for its name, so it must not begin before the one before it is settled.
*Talks* (the sockets folder): the first ``describe-enclaves`` after a launch waits until the image is hashed,
and another talk meanwhile gives up after 3 s, which ends the enclave. A talk never happens twice at once.
They are two so that ``list`` need not wait for a boot of three minutes.
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

_POLL_S = 0.05
_TELL_AFTER_S = 0.3
_TELL_EVERY_S = 30.0


@contextmanager
def host_lock(
    folder: Path, what: str, progress: Progress, *, gives_up: Callable[[], bool] = lambda: False
) -> Iterator[int]:
    """Nobody else on this host is in such a block on ``folder``. Yields the descriptor that holds the lock.

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


def _wait(fd: int, what: str, progress: Progress, gives_up: Callable[[], bool]) -> None:
    start = time.monotonic()
    next_word_s = _TELL_AFTER_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if gives_up():
                raise StateError(f"its end was asked for while it waited for another {what}") from None
            waited_s = time.monotonic() - start
            if waited_s >= next_word_s:
                progress.note(f"waiting for another {what} on this host ({waited_s:.0f} s)")
                next_word_s = waited_s + _TELL_EVERY_S
            time.sleep(_POLL_S)
        else:
            return
