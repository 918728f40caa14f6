"""The start of a keeper and its reports: an enclave's launch from the command's side."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from enclavectl.backends.base import WAITING
from enclavectl.backends.keeping.ending import load_ended
from enclavectl.backends.keeping.keeper_process import KeeperProcess
from enclavectl.backends.keeping.locks import is_kept
from enclavectl.backends.keeping.reports import Reports, error_from_report, start_reporting
from enclavectl.backends.machine import MachineEnclave
from enclavectl.backends.nitro.keeper import KeeperSpec
from enclavectl.backends.nitro.records import LaunchRecord
from enclavectl.json_object import JsonError
from enclavectl.nitro_cli.answers import RunInfo
from enclavectl.progress import NoProgress, Progress
from enclavectl.run import handle_of, has_ended

# The interval of progress updates while the keeper reports nothing.
_TICK_S = 0.25
# After the system has booted, the payload may take this long to load its model on one slow vCPU.
_READY_S = 120.0
# An enclave ends at once, unless its image is being hashed, which may take minutes and cannot be stopped.
END_S = 30.0
# After Ctrl-C the user does not want to wait.
INTERRUPTED_S = 3.0


class NitroEnclave:
    """An enclave whose keeper this process started. A context manager: leaving it ends the enclave.

    A detached enclave is released instead, but only if the block ends without an error.
    """

    def __init__(
        self,
        enclave: MachineEnclave,
        launch: LaunchRecord,
        keeper: ReportingKeeper,
        terminate: Callable[[], None],
    ) -> None:
        """Wrap the ``enclave`` right after its launch; ``terminate`` ends it without its keeper."""
        self.enclave = enclave
        self._folder = launch.folder
        self._keeper = keeper
        self._detached = launch.record.detached
        self._terminate = terminate
        self._daemon = None if enclave.pid is None else handle_of(enclave.pid)

    @property
    def boot_grace_s(self) -> float:
        """The seconds that the payload may take to start after the kernel."""
        return _READY_S

    def is_alive(self) -> bool:
        """Return True until the keeper, or this process in its place, has seen the enclave's end."""
        if load_ended(self._folder) is not None:
            return False
        return is_kept(self._folder) or (self._daemon is not None and not has_ended(self._daemon))

    def activity(self) -> str:
        """Return all that is known: nobody can look into an enclave."""
        return WAITING

    def failure(self) -> None:
        """Return nothing: only a console would say it."""

    def warning(self) -> None:
        """Return nothing: a Nitro host gives every enclave the same."""

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


class ReportingKeeper:
    """A running keeper, and the pipe of its reports on the launch."""

    def __init__(self, process: KeeperProcess, reports: Reports) -> None:
        self._process = process
        self._reports = reports
        self._progress: Progress = NoProgress()
        self.is_launching = False

    @property
    def was_killed(self) -> bool:
        """True if the keeper was killed or failed."""
        return self._process.was_killed

    def wait_launched(self, progress: Progress, bound_s: float) -> RunInfo:
        """Wait until the enclave has booted; return nitro-cli's answer.

        ``bound_s`` is the limit of a boot in seconds. It is only shown, since nitro-cli enforces it itself.

        Raises:
            HostError: the launch failed.
            StateError: another command asked for the enclave's end meanwhile.
        """
        self._progress = progress
        try:
            return self._wait_launched(progress, bound_s)
        except JsonError as exc:
            raise self._reports.failure(f"said what is no report ({exc})") from exc

    def _wait_launched(self, progress: Progress, bound_s: float) -> RunInfo:
        launching: float | None = None
        while True:
            for report in self._reports.wait(_TICK_S):
                if "note" in report:
                    progress.note(report.string("note"))
                elif "launching" in report:
                    launching = time.monotonic()
                    self.is_launching = True
                elif "launched" in report:
                    return RunInfo.from_json(report.object("launched"))
                elif "failed" in report:
                    raise error_from_report(report.object("failed"))
            if launching is not None:
                progress.update("booting the enclave", time.monotonic() - launching, bound_s)

    def let_go(self) -> None:
        """Release the enclave, so that it outlives this process."""
        self._reports.close()
        self._process.detach()

    def end(self, *, wait_s: float) -> None:
        """End the enclave, at once or as soon as it has booted; wait at most ``wait_s`` seconds for that."""
        self._reports.close()
        if not self._process.end(wait_s):
            if wait_s:
                self._progress.note("the enclave ends by itself as soon as it can: enclavectl list shows it")
            self._process.leave()


def start_reporting_keeper(
    folder: Path, lock: int, environment: Mapping[str, str], spec: Callable[[int, int], KeeperSpec]
) -> ReportingKeeper:
    """Start a keeper for the enclave in ``folder``.

    ``spec`` makes the specification from the descriptors of the lifeline and of the pipe for reports.

    Raises:
        HostError: no process can be started, or its log cannot be written.
    """
    module = "enclavectl.backends.nitro.keeper"
    process, reports = start_reporting(
        module, folder, lock, lambda lifeline, report: spec(lifeline, report).to_json(), environment
    )
    return ReportingKeeper(process, reports)
