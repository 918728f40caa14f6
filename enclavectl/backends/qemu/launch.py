"""An emulated enclave from the side of the command that started it."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from enclavectl.backends.keeping.folders import remove_enclave
from enclavectl.backends.keeping.keeper_process import KeeperProcess
from enclavectl.backends.keeping.locks import is_kept
from enclavectl.backends.keeping.reports import Reports, error_from_report
from enclavectl.backends.machine import EmulatedEnclave
from enclavectl.backends.qemu.boot import BootStep
from enclavectl.backends.qemu.keeper import BOOT_BOUND_S
from enclavectl.errors import EnclavectlError, HostError
from enclavectl.json_object import JsonObject
from enclavectl.progress import Progress

# The interval of progress updates while the keeper reports nothing.
_TICK_S = 0.25
# QEMU is killed, which takes as long as the kernel needs to free its memory.
_END_S = 10.0


class QemuEnclave:
    """A keeper that this process started. A context manager: leaving it ends the enclave.

    A detached enclave is let go instead, but only if the block ends without an error.
    """

    def __init__(
        self, enclave: EmulatedEnclave, folder: Path, keeper: KeeperProcess, reports: Reports
    ) -> None:
        self.enclave = enclave
        self._folder = folder
        self._keeper = keeper
        self._reports = reports
        self._step = BootStep.FIRMWARE.value
        self._failure: EnclavectlError | None = None

    @property
    def boot_grace_s(self) -> float:
        """The seconds that the payload may take after the kernel: emulated, as long as a whole boot."""
        return BOOT_BOUND_S

    def wait_booted(self, progress: Progress) -> None:
        """Wait until the enclave's kernel has reported.

        Raises:
            HostError: the boot failed.
        """
        start = time.monotonic()
        while True:
            for report in self._reports.wait(_TICK_S):
                self._take(report)
                if "launched" in report:
                    return
            if self._failure is not None:
                raise self._failure
            progress.update(f"booting: {self._step}", time.monotonic() - start, BOOT_BOUND_S)

    def is_alive(self) -> bool:
        """Return whether the keeper runs."""
        return is_kept(self._folder)

    def warning(self) -> None:
        """Return nothing: what this host does not give was said before the start."""

    def activity(self) -> str:
        """Return the step of the boot that goes on now."""
        self._take_reports()
        return f"booting: {self._step}"

    def failure(self) -> EnclavectlError | None:
        """Return why the enclave ended, once it has."""
        self._take_reports()
        return self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.enclave.is_owned or kind is not None:
            self.abandon()
        else:
            self._reports.close()
            self._keeper.detach()

    def abandon(self) -> None:
        """End the enclave and remove its files, whatever state its keeper is in."""
        self._reports.close()
        if not self._keeper.end(_END_S):
            self._keeper.kill()  # QEMU dies with it: PR_SET_PDEATHSIG
        remove_enclave(self._folder)  # which a keeper that was killed could not

    def _take_reports(self) -> None:
        try:
            for report in self._reports.wait(0):
                self._take(report)
        except HostError as exc:
            self._failure = self._failure or exc

    def _take(self, report: JsonObject) -> None:
        if "step" in report:
            self._step = report.string("step")
        elif "failed" in report:
            error = error_from_report(report.object("failed"))
            error.message = f"{self.enclave.name}: {error.message}"
            self._failure = error
