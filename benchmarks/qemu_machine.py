"""A machine for the benchmarks of the backend qemu, with its console and either vsock device."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from enclavectl.backends.qemu.boot import BootProgress, BootStep
from enclavectl.backends.qemu.failure import find_cause
from enclavectl.backends.qemu.machine import QemuMachine, clock_khz
from enclavectl.backends.qemu.parent_ports import ParentPorts
from enclavectl.backends.qemu.vsock import HybridListener, Reactor, VsockDevice
from enclavectl.net.address import UnixAddress
from enclavectl.net.transport import listen
from enclavectl.run import dying_with_us

_CID = 16
# Of an idle machine's boot in 12 s: what takes ten times as long measures something else.
_BOUND_S = 120.0
_ENDS = (b"Kernel panic", b"init: the command ended", b"enclave_payload: serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The begin of a step of a boot, from the start of QEMU."""

    step: BootStep
    wall_s: float
    cpu_s: float


@dataclass(slots=True)
class Booted:
    """What a boot's console said until it served, failed or took too long."""

    marks: list[Mark] = field(default_factory=list)
    console: str = ""

    @property
    def serves(self) -> bool:
        """Whether the payload serves."""
        return bool(self.marks) and self.marks[-1].step is BootStep.SERVING

    @property
    def failure(self) -> str:
        """Why it does not."""
        cause = find_cause(self.console)
        return "took too long" if cause is None else cause.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is measured: a QEMU and an image."""

    qemu: Path
    image: Path
    memory_mib: int = 1024
    cpus: int = 2

    def to_machine(self, frontend_fd: int) -> QemuMachine:
        """Return the machine as the backend has it."""
        return QemuMachine(
            program=self.qemu,
            image=self.image,
            module_id="i-0-benchmark",
            memory_mib=self.memory_mib,
            cpus=self.cpus,
            uses_kvm=False,
            frontend_fd=frontend_fd,
            clock_khz=clock_khz(Path("/proc/cpuinfo").read_text()),
        )


def boot(parts: Parts, folder: Path) -> Booted:
    """Boot the image beside our device, in one loop as in the keeper, and end it."""
    found, progress, reactor = Booted(), BootProgress(), Reactor()
    started = time.monotonic()
    ours, theirs = socket.socketpair()
    with running(parts.to_machine(theirs.fileno()).to_argv(), theirs.fileno()) as qemu:
        theirs.close()

        def see(step: BootStep | None) -> None:
            if step is not None:
                mark = Mark(step=step, wall_s=time.monotonic() - started, cpu_s=cpu_seconds(qemu.pid))
                found.marks.append(mark)

        ports = ParentPorts(reactor, folder, lambda: see(progress.see(BootStep.IMPORTS)))
        device = VsockDevice(reactor, cid=_CID, dial=ports.dial, failed=lambda _: None)
        device.attach(ours)
        console = Console(qemu, reactor)
        while not console.is_over and time.monotonic() < started + _BOUND_S:
            reactor.turn(1.0)
            for line in console.take():
                see(progress.see_line(line))
        found.console = console.text
    device.close()
    reactor.close()
    return found


class Console:
    """What a machine prints, line by line."""

    def __init__(self, qemu: subprocess.Popen[bytes], reactor: Reactor) -> None:
        assert qemu.stdout is not None
        self._fd = qemu.stdout.fileno()
        self._reactor = reactor
        self._lines: list[bytes] = []
        self._rest = b""
        self.text = ""
        self.is_over = False
        reactor.watch(self._fd, select.EPOLLIN, lambda _: self._read())

    def take(self) -> list[bytes]:
        """Return the new lines."""
        lines, self._lines = self._lines, []
        return lines

    def _read(self) -> None:
        data = os.read(self._fd, 1 << 16)
        self.text += data.decode(errors="replace")
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines += lines
        if not data:
            self._reactor.forget(self._fd)
        if not data or any(end in line for line in lines for end in _ENDS):
            self.is_over = True


@contextmanager
def echoing(parts: Parts, folder: Path, other_device: Path | None) -> Iterator[tuple[Path, Reactor]]:
    """Boot an image beside our device, or beside another program; yield its door, and the loop to turn."""
    reactor, door = Reactor(), folder / "door"
    if other_device is not None:
        vhost = folder / "vhost"
        argv = [str(other_device), "--vm", f"guest-cid={_CID},uds-path={door},socket={vhost}"]
        with running(argv):
            _wait_for(vhost)
            words = [word.replace("fd=0", f"path={vhost}") for word in parts.to_machine(0).to_argv()]
            with running(words) as qemu:
                Console(qemu, reactor)
                yield door, reactor
        return
    ours, theirs = socket.socketpair()
    with (
        listen(UnixAddress(door)) as listener,
        running(parts.to_machine(theirs.fileno()).to_argv(), theirs.fileno()) as qemu,
    ):
        theirs.close()
        ports = ParentPorts(reactor, folder, lambda: None)
        device = VsockDevice(reactor, cid=_CID, dial=ports.dial, failed=lambda _: None)
        device.attach(ours)
        HybridListener(reactor, listener, device)
        Console(qemu, reactor)
        yield door, reactor


@contextmanager
def running(argv: list[str], *fds: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, which is killed at the end; what it prints can be read."""
    process = subprocess.Popen(
        dying_with_us(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=fds,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + _BOUND_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} did not appear")
        time.sleep(0.05)
