"""``run --foreground``: the command stays with its enclave, as the first process of a container does."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclavectl.backends.state import EnclaveState
from enclavectl.cli.announcing import announce_enclave
from enclavectl.cli.invocation import Invocation
from enclavectl.errors import EnclavectlError, EnclaveError

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, Enclave, RunningEnclave

# A child's end wakes us at once. This is for an enclave whose keeper was killed, which is no child's end.
_LOOK_S = 1.0
# flock has no time limit, so it is polled: as often as the gateway looks at its files.
_DRAIN_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreground:
    """An enclave that this command stays with. ``drain_s`` bounds the wait for a gateway's last answers."""

    invocation: Invocation
    backend: Backend
    running: RunningEnclave
    drain_s: float

    def stay(self, show: Callable[[], None]) -> None:
        """Announce the enclave, ``show`` it, and wait for its end, or for SIGTERM or Ctrl-C; then drain.

        After the return ``end`` must follow, once this process has let go of the enclave: then its keeper
        ends it as one that others may have used.

        Raises:
            EnclaveError: the enclave ended by itself.
        """
        try:
            # A signal from here on ends an enclave that others know of.
            announce_enclave(self.invocation, self.backend, self.running.enclave)
            show()
            sys.stdout.flush()  # a log collector should see it now
            self._wait()
        except KeyboardInterrupt:
            self._stop()
            return
        self._withdraw()
        name = self.running.enclave.name
        self.backend.terminate(self.running.enclave)  # removes what is left of it, and keeps the history
        raise EnclaveError(
            f"{name}: the enclave ended by itself: {self._how()}",
            hint=f"enclavectl logs {name} shows its last console lines, if it had a console",
            code="enclave-ended",
            after_answer=True,
        )

    def _wait(self) -> None:
        with _child_ends_held():
            while self.running.is_alive():
                signal.sigtimedwait([signal.SIGCHLD], _LOOK_S)
                _reap()

    def _stop(self) -> None:
        name = self.running.enclave.name
        self.invocation.screen.note(f"asked to end: {name} drains, then ends; once more ends it now")
        try:
            self._drain()
        except KeyboardInterrupt:
            self.invocation.screen.note(f"{name}: not drained")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # what remains is bounded, and must not be left half done

    def end(self) -> None:
        """End the enclave, after ``stay``."""
        self.backend.terminate(self.running.enclave)
        _reap()
        self.invocation.screen.note(f"{self.running.enclave.name} has ended")

    def _drain(self) -> None:
        """Wait until no gateway has a session with the enclave that it took from our announcement."""
        lease = self._withdraw()
        if lease is None:
            return
        from enclavectl.gateway.announced import is_let_go  # noqa: PLC0415 - only where one is configured

        deadline = time.monotonic() + self.drain_s
        try:
            while not is_let_go(lease):
                if time.monotonic() > deadline:
                    self.invocation.screen.note(f"a gateway had sessions after {self.drain_s:g} s")
                    return
                time.sleep(_DRAIN_POLL_S)
        finally:
            os.close(lease)

    def _withdraw(self) -> int | None:
        folder = self.invocation.config.gateway.announce
        if folder is None:
            return None
        from enclavectl.gateway.announced import withdraw  # noqa: PLC0415 - only where one is configured

        try:
            return withdraw(folder, self.backend.name, self.running.enclave.enclave_id)
        except EnclavectlError as error:
            self.invocation.screen.note(f"the gateway was not told: {error.message}")
            return None

    def _how(self) -> str:
        from enclavectl.backends.history import History  # noqa: PLC0415 - only at such an end

        found = History(self.invocation.config.state_dir).find(self.running.enclave.enclave_id)
        return "its history was not kept" if found is None else found.how


def remove_dead(backend: Backend, name: str | None) -> None:
    """Remove what is left of an ended enclave of this name, which a container that starts again has kept."""
    if name is not None:
        for one in _dead(backend.enclaves(), name):
            backend.terminate(one)


def _dead(enclaves: list[Enclave], name: str) -> list[Enclave]:
    return [one for one in enclaves if one.name == name and one.state is EnclaveState.DEAD]


@contextmanager
def _child_ends_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap() -> None:
    """Take the exit codes of all children that have ended.

    The first process of a container inherits whatever loses its parent there: nitro-cli's daemon does, by
    design. Nobody else takes their exit codes, and each would keep a place in the table of processes.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
