"""Starting a keeper and hearing what it reports: the enclave's start as the command line sees it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from enclavectl.backends.base import Enclave
from enclavectl.backends.folders import is_running
from enclavectl.backends.nitro.keeper import KeeperSpec
from enclavectl.backends.nitro.records import Kept, load_ended
from enclavectl.errors import EnclavectlError, HostError, StateError
from enclavectl.nitro_cli.answers import RunInfo
from enclavectl.progress import NoProgress, Progress
from enclavectl.run import Command, handle_of, has_ended, start, wait_ended

_TICK_S = 0.25
_MAX_REPORT = 1024 * 1024
_LAST_LINES = 5
# After its system has booted, the payload may still load its model for so long.
_READY_S = 120.0
# It ends at once, unless its image is just being hashed, which may take minutes and cannot be stopped.
END_S = 30.0
# Who presses Ctrl-C wants to go.
INTERRUPTED_S = 3.0


class NitroEnclave:
    """An enclave whose keeper this process started. A context manager: leaving it ends the enclave.

    A detached enclave is let go instead, but only by leaving without an error.
    """

    def __init__(
        self, enclave: Enclave, kept: Kept, keeper: KeeperProcess, terminate: Callable[[], None]
    ) -> None:
        """``enclave`` is its description right after the launch; ``terminate`` ends it without its keeper."""
        self.enclave = enclave
        self._folder = kept.folder
        self._keeper = keeper
        self._detached = kept.record.detached
        self._terminate = terminate
        self._daemon = None if enclave.pid is None else handle_of(enclave.pid)

    @property
    def patience_s(self) -> float:
        """Its kernel runs, its payload may not yet."""
        return _READY_S

    def is_alive(self) -> bool:
        """Whether nobody has seen its end: neither its keeper, nor, if that was killed, we."""
        if load_ended(self._folder) is not None:
            return False
        return is_running(self._folder) or (self._daemon is not None and not has_ended(self._daemon))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._detached and kind is None:
                self._keeper.let_go()
                return
            self._keeper.end(wait_s=INTERRUPTED_S if isinstance(value, KeyboardInterrupt) else END_S)
            if self._keeper.was_killed:
                self._terminate()
        finally:
            if self._daemon is not None:
                os.close(self._daemon)


class KeeperProcess:
    """A keeper that runs, the lifeline that ends it, and the pipe on which it reports."""

    def __init__(self, process: subprocess.Popen[bytes], lifeline: int, reports: int, log: Path) -> None:
        """``lifeline`` is the write end, ``reports`` the read end."""
        self._process = process
        self._lifeline = lifeline
        self._reports = reports
        self._log = log
        self._buffer = b""
        self._progress: Progress = NoProgress()
        self.is_launching = False

    def wait_launched(self, progress: Progress, bound_s: float) -> RunInfo:
        """nitro-cli's answer, once the enclave has booted.

        ``bound_s`` is how long a boot may take. It is told and not enforced: nitro-cli keeps it by itself.

        Raises:
            HostError: the launch failed.
            StateError: its end was asked for meanwhile.
        """
        self._progress = progress
        launching: float | None = None
        while True:
            for report in self._next_reports():
                if "note" in report:
                    progress.note(str(report["note"]))
                elif "launching" in report:
                    launching = time.monotonic()
                    self.is_launching = True
                elif "launched" in report and isinstance(found := report["launched"], dict):
                    return RunInfo.from_json(found)
                elif "failed" in report:
                    raise _error(report["failed"])
            if launching is not None:
                progress.update("booting the enclave", time.monotonic() - launching, bound_s)

    def let_go(self) -> None:
        """The enclave lives on without us."""
        with suppress(BrokenPipeError):  # it was killed; the next command that lists starts another
            os.write(self._lifeline, b"x")
        self._close()
        self._leave()

    @property
    def was_killed(self) -> bool:
        """Whether it has ended in another way than by itself."""
        return self._process.returncode not in (0, None)

    def end(self, *, wait_s: float) -> None:
        """The enclave ends: at once if it has booted, else as soon as it has. Waits ``wait_s`` seconds."""
        self._close()
        if not wait_ended(self._process, wait_s):
            if wait_s:
                self._progress.note("the enclave ends by itself as soon as it can: enclavectl list shows it")
            self._leave()

    def _close(self) -> None:
        os.close(self._lifeline)
        os.close(self._reports)

    def _leave(self) -> None:
        """It goes on by itself; Popen must not warn that we did not wait."""
        if self._process.poll() is None:
            self._process.returncode = 0

    def _next_reports(self) -> Iterator[dict[str, object]]:
        poll = select.poll()
        poll.register(self._reports, select.POLLIN)
        if not poll.poll(_TICK_S * 1000):
            return
        data = os.read(self._reports, 64 * 1024)
        self._buffer += data
        if not data or len(self._buffer) > _MAX_REPORT:
            raise HostError(
                f"the enclave's keeper failed; its last words: {_last_lines(self._log)}",
                hint="enclavectl list shows whether an enclave runs; report those lines",
                code="keeper-failed",
            )
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            report = json.loads(line)
            if isinstance(report, dict):
                yield report


def start_keeper(
    folder: Path, lock: int, environment: dict[str, str], spec: Callable[[int, int], KeeperSpec]
) -> KeeperProcess:
    """A keeper for the enclave in ``folder``; ``spec`` is asked with the lifeline's and the pipe's number.

    Raises:
        HostError: no process can be started, or its log not be written.
    """
    with _pipe() as (lifeline_read, lifeline_write), _pipe() as (report_read, report_write):
        request = spec(lifeline_read, report_write)
        argv = [sys.executable, "-EPB", "-m", "enclavectl.backends.nitro.keeper", json.dumps(asdict(request))]
        command = Command(
            argv=argv, cwd=folder, environment=environment, pass_fds=(lifeline_read, report_write, lock)
        )
        log = folder / "keeper.log"
        try:
            with log.open("ab") as output:
                process = start(command, output=output)
        except OSError as exc:
            raise HostError(f"{log}: cannot be written ({exc.strerror})") from exc
        return KeeperProcess(process, os.dup(lifeline_write), os.dup(report_read), log)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)


def _error(value: object) -> EnclavectlError:
    found = value if isinstance(value, dict) else {}
    kind = StateError if found.get("kind") == StateError.kind else HostError
    hint, code = found.get("hint"), found.get("code")
    return kind(
        str(found.get("message")),
        hint=None if hint is None else str(hint),
        code=None if code is None else str(code),
    )


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "none"
    return " | ".join(lines[-_LAST_LINES:]) or "none"
