"""Starting a keeper, detaching from it, and ending it with its enclave."""

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
    """A keeper that this process started, and the lifeline that ends it."""

    def __init__(self, process: subprocess.Popen[bytes], lifeline: Lifeline) -> None:
        self._process = process
        self._lifeline = lifeline

    @property
    def pid(self) -> int:
        """The keeper's process id."""
        return self._process.pid

    @property
    def was_killed(self) -> bool:
        """True if the keeper has ended in another way than by itself."""
        return self._process.returncode not in (0, None)

    def detach(self) -> None:
        """Let the enclave live on without this process."""
        self._lifeline.release()
        self.leave()

    def end(self, wait_s: float) -> bool:
        """Cut the lifeline; return whether the keeper ended within ``wait_s`` seconds."""
        self._lifeline.cut()
        return wait_ended(self._process, wait_s)

    def kill(self) -> None:
        """Kill the keeper: what it started ends with it, what it wrote down stays."""
        self._process.kill()
        self._process.wait()

    def leave(self) -> None:
        """Let the keeper go on by itself: Popen must not warn that nobody waited for it."""
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
    """Start ``python -m module SPEC`` in ``folder``; ``spec`` is asked with the lifeline's descriptor.

    Both of its outputs are appended to ``log``. ``pass_fds`` are the other descriptors that it inherits.

    Raises:
        HostError: no process can be started, or its log cannot be written.
    """
    with _pipe() as (lifeline_read, lifeline_write):
        command = Command(
            # No PYTHON variables, no current folder on the path, no .pyc files written.
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
