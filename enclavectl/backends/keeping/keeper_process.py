"""The keeper as a child process: its start, detaching from it, and its end with its enclave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from enclavectl.backends.keeping.lifeline import Lifeline
from enclavectl.errors import HostError
from enclavectl.run import MINIMAL_ENVIRONMENT, Command, start, wait_ended


class KeeperProcess:
    """A keeper that this process started, and its lifeline."""

    def __init__(self, process: subprocess.Popen[bytes], lifeline: Lifeline) -> None:
        self._process = process
        self._lifeline = lifeline

    @property
    def pid(self) -> int:
        """The keeper's process id."""
        return self._process.pid

    @property
    def was_killed(self) -> bool:
        """True if the keeper was killed or failed."""
        return self._process.returncode not in (0, None)

    def detach(self) -> None:
        """Release the enclave, so that it outlives this process."""
        self._lifeline.release()
        self.leave()

    def end(self, wait_s: float) -> bool:
        """Cut the lifeline; return whether the keeper ended within ``wait_s`` seconds."""
        self._lifeline.cut()
        return wait_ended(self._process, wait_s)

    def kill(self) -> None:
        """Kill the keeper. The processes that it started end with it; its files stay."""
        self._process.kill()
        self._process.wait()

    def leave(self) -> None:
        """Leave the keeper running, without Popen's warning about a child that was not waited for."""
        if self._process.poll() is None:
            self._process.returncode = 0


def start_keeper(
    module: str,
    spec: Callable[[int], str],
    *,
    folder: Path,
    log: Path,
    pass_fds: tuple[int, ...],
    environment: Mapping[str, str] = MINIMAL_ENVIRONMENT,
) -> KeeperProcess:
    """Start ``python -m module SPEC`` in ``folder``; ``spec`` makes SPEC from the lifeline's descriptor.

    Both outputs are appended to ``log``. ``pass_fds`` are the other descriptors that the keeper inherits.

    Raises:
        HostError: no process can be started, or its log cannot be written.
    """
    with _pipe() as (lifeline_read, lifeline_write):
        command = Command(
            # Without PYTHON variables, without the current folder on the path, without writing .pyc files.
            argv=[sys.executable, "-EPB", "-m", module, spec(lifeline_read)],
            cwd=folder,
            environment=environment,
            pass_fds=(*pass_fds, lifeline_read),
        )
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise HostError(f"{log}: cannot be written ({exc.strerror})") from exc
        with os.fdopen(descriptor, "ab") as output:
            process = start(command, output=output)
        return KeeperProcess(process, Lifeline(os.dup(lifeline_write)))


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)
