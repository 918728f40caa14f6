"""The keeper of one emulated enclave: it runs QEMU and its vsock device, and keeps the console.

Only the backend starts ``python -m enclavectl.backends.qemu.keeper SPEC``; SPEC is JSON. It is one process
with one loop, so that nothing here can wait for anything else here. The enclave ends with it: the kernel
kills QEMU when this process ends, however that is.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.console_log import ConsoleLog
from enclavectl.backends.history import History
from enclavectl.backends.keeping.ending import TERMINATED, EnclaveEnd, history_entry, write_ended
from enclavectl.backends.keeping.folders import remove_after_starter
from enclavectl.backends.keeping.lifeline import LifelineEnd
from enclavectl.backends.keeping.names import module_id
from enclavectl.backends.keeping.reports import error_to_report, send_report
from enclavectl.backends.keeping.timestamps import TimestampedLines
from enclavectl.backends.qemu.boot import BootProgress, BootStep
from enclavectl.backends.qemu.failure import Cause, find_cause
from enclavectl.backends.qemu.machine import QemuMachine, clock_khz
from enclavectl.backends.qemu.parent_ports import ParentPorts
from enclavectl.backends.qemu.records import SOCKET_NAME, load_record
from enclavectl.backends.qemu.vsock import HybridListener, Reactor, VsockDevice
from enclavectl.errors import EnclavectlError, HostError
from enclavectl.net.address import UnixAddress
from enclavectl.net.transport import listen
from enclavectl.run import Command, dying_with_us, start
from enclavectl.trust import Trust

# What one turn of the loop takes from the console, so that a guest that floods it keeps nobody waiting.
_OUTPUT_BYTES = 64 * 1024
# Lines in which a cause is looked for; a panic prints some 40.
_LAST_LINES = 200
_QUOTED_LINES = 4
# After a panic the kernel waits 30 s (panic=30), so that a person can read it. The lines are there by then.
_PANIC_S = 1.0
# Between the end of QEMU's socket and that of its process: the kernel frees its memory.
_STATUS_S = 0.5
_PANIC = b"Kernel panic - not syncing"
# An enclave that never reports hangs. A boot under emulation takes 12 s on an idle host, and 10 times that on
# one with ten times as many processes as processors.
BOOT_BOUND_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSpec:
    """What the backend hands over. The descriptors are inherited; the lifeline is keeping/lifeline.py's."""

    folder: str
    state_dir: str
    lifeline_fd: int
    report_fd: int
    lock_fd: int
    program: str
    image: str
    memory_mib: int
    cpus: int
    cid: int
    uses_kvm: bool
    detached: bool

    def to_json(self) -> str:
        """Return the keeper's one argument."""
        return json.dumps(asdict(self))


class Keeper:
    """One enclave, from the start of QEMU to the record of its end."""

    def __init__(self, spec: KeeperSpec) -> None:
        self._spec = spec
        self._folder = Path(spec.folder)
        self._reactor = Reactor()
        self._lifeline = LifelineEnd(spec.lifeline_fd)
        self._log = ConsoleLog(self._folder / "console.log")
        self._stamped = TimestampedLines(lambda: datetime.now(UTC))
        self._partial = b""
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._progress = BootProgress()
        self._has_booted = False
        self._is_detached = False
        self._has_panicked = False
        self._is_over = False
        self._how: str | None = None
        self._wake_read, self._wake_write = os.pipe()
        self._output, self._output_qemu = os.pipe()
        os.set_blocking(self._output, False)
        os.set_blocking(self._wake_write, False)
        for fd in (self._wake_read, self._lifeline.fd):
            os.set_inheritable(fd, False)

    def run(self) -> None:
        """Keep the enclave until QEMU has ended; unless it was detached, remove every trace of it."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: os.write(self._wake_write, b"x"))
        try:
            how = self._keep()
        except (EnclavectlError, OSError) as exc:
            error = exc if isinstance(exc, EnclavectlError) else _of_the_host(exc)
            send_report(self._spec.report_fd, error_to_report(error))
            how = f"it was never started: {error.message}"
        self._record_end(how)
        if not self._is_detached:
            remove_after_starter(
                self._folder, self._spec.lock_fd, lambda: self._lifeline.wait_cut(self._wake_read)
            )

    def _keep(self) -> str:
        """Run the machine to its end; return how it ended."""
        with listen(UnixAddress(self._folder / SOCKET_NAME)) as listener:
            ours, theirs = socket.socketpair()
            ports = ParentPorts(self._reactor, self._folder.parent.parent, self._on_heartbeat)
            device = VsockDevice(self._reactor, cid=self._spec.cid, dial=ports.dial, failed=self._lose_device)
            qemu = self._start_qemu(theirs)
            try:
                device.attach(ours)
                guests = HybridListener(self._reactor, listener, device)
                self._serve(qemu)
                guests.close()
            finally:
                qemu.kill()
                status = qemu.wait()
                device.close()
                (self._folder / SOCKET_NAME).unlink(missing_ok=True)
            self._finish_console()
        return self._describe_end(status)

    def _start_qemu(self, frontend: socket.socket) -> subprocess.Popen[bytes]:
        spec = self._spec
        machine = QemuMachine(
            program=Path(spec.program),
            image=Path(spec.image),
            module_id=module_id(self._folder.name),
            memory_mib=spec.memory_mib,
            cpus=spec.cpus,
            uses_kvm=spec.uses_kvm,
            frontend_fd=frontend.fileno(),
            clock_khz=clock_khz(Path("/proc/cpuinfo").read_text()),
        )
        command = Command(
            argv=dying_with_us(machine.to_argv()), cwd=self._folder, pass_fds=(frontend.fileno(),)
        )
        try:
            return start(command, output=self._output_qemu)
        finally:
            # QEMU alone holds these now: when it ends, whoever waits for it sees the end.
            os.close(self._output_qemu)
            frontend.close()

    def _serve(self, qemu: subprocess.Popen[bytes]) -> None:
        ended = os.pidfd_open(qemu.pid)
        reactor = self._reactor
        reactor.watch(self._output, select.EPOLLIN, self._on_output)
        reactor.watch(self._lifeline.fd, select.EPOLLIN, lambda _: self._follow_lifeline())
        reactor.watch(self._wake_read, select.EPOLLIN, lambda _: self._stop(TERMINATED))
        reactor.watch(ended, select.EPOLLIN, lambda _: self._stop(None))
        timer = reactor.later(BOOT_BOUND_S, self._give_up)
        while not self._is_over:
            reactor.turn()
        timer.cancel()
        reactor.forget(ended)
        os.close(ended)

    def _stop(self, how: str | None) -> None:
        """End the loop; ``how`` None: QEMU has ended, and its status says how. The first reason counts."""
        if not self._is_over:
            self._is_over = True
            self._how = how

    def _lose_device(self, reason: str) -> None:
        # A QEMU that has just ended closed its socket first; then its status says more.
        self._reactor.later(_STATUS_S, lambda: self._stop(reason))

    def _give_up(self) -> None:
        if not self._has_booted:
            self._stop(f"its kernel did not report within {BOOT_BOUND_S:g} s")

    def _follow_lifeline(self) -> None:
        self._reactor.forget(self._lifeline.fd)
        if self._lifeline.is_released():
            self._is_detached = True
        else:
            self._stop(TERMINATED)

    def _on_heartbeat(self) -> None:
        if not self._has_booted:
            self._has_booted = True
            # QEMU has read it whole, and a machine that never boots again needs no image.
            with suppress(OSError):
                Path(self._spec.image).unlink()
            self._tell(self._progress.see(BootStep.IMPORTS))
            send_report(self._spec.report_fd, {"launched": True})

    def _on_output(self, _events: int) -> None:
        self._keep_output()

    def _keep_output(self) -> bool:
        """Keep what the console has to say now; return whether there was something."""
        try:
            data = os.read(self._output, _OUTPUT_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._reactor.forget(self._output)
            return False
        self._log.write(self._stamped.feed(data))
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[-_OUTPUT_BYTES:]
        for line in lines[-_LAST_LINES:]:
            self._see_line(line)
        return True

    def _see_line(self, line: bytes) -> None:
        self._lines.append(line.decode(errors="replace").rstrip("\r"))
        self._tell(self._progress.see_line(line))
        if _PANIC in line and not self._has_panicked:
            self._has_panicked = True
            self._reactor.later(_PANIC_S, lambda: self._stop("its kernel panicked"))

    def _tell(self, step: BootStep | None) -> None:
        if step is not None:
            send_report(self._spec.report_fd, {"step": step.value})

    def _finish_console(self) -> None:
        while self._keep_output():
            pass
        if self._partial:
            self._see_line(self._partial)
        self._log.write(self._stamped.flush())

    def _describe_end(self, status: int) -> str:
        """Return how it ended, in words, and tell a command that still waits why."""
        how = self._how
        if how is None:
            how = f"QEMU was killed by signal {-status}" if status < 0 else f"QEMU ended with status {status}"
        if how == TERMINATED:
            return how
        cause = find_cause("\n".join(self._lines))
        self._report_failure(how, cause)
        return how if cause is None else f"{how}: {cause.text}"

    def _report_failure(self, how: str, cause: Cause | None) -> None:
        last = [line.strip() for line in self._lines if line.strip()][-_QUOTED_LINES:]
        words = f"; its last words: {' | '.join(last)}" if last else ""
        what = "did not boot" if not self._has_booted else "ended"
        if cause is None:
            cause = Cause(
                code="ended" if self._has_booted else "no-heartbeat",
                text=how,
                fix="is this host busy? enclavectl doctor checks it, enclavectl eif verify IMAGE the image",
            )
        error = HostError(f"the enclave {what}: {cause.text}{words}", hint=cause.fix, code=cause.code)
        send_report(self._spec.report_fd, error_to_report(error))

    def _record_end(self, how: str) -> None:
        self._log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} keeper: the enclave ended: {how}\n".encode())
        self._log.close()
        end = EnclaveEnd(at=datetime.now(UTC), how=how)
        try:
            write_ended(self._folder, end)
            if self._spec.detached:
                record = load_record(self._folder)
                entry = history_entry(self._folder, record, end, backend="qemu", trust=Trust.EMULATED)
                History(Path(self._spec.state_dir)).add(entry)
        except EnclavectlError as exc:  # the folder is gone, or the disk is full
            with suppress(OSError), (self._folder / "keeper.log").open("a") as log:
                log.write(f"{exc.message}\n")


def _of_the_host(exc: OSError) -> HostError:
    return HostError(f"{exc.filename or 'the enclave'}: {exc.strerror or exc}", code="keeper-failed")


def main(argument: str) -> None:
    """Keep the enclave until its end."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Keeper(KeeperSpec(**json.loads(argument))).run()


if __name__ == "__main__":
    main(sys.argv[1])
