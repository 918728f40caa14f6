"""The QEMU lane: .ci/qemu-lane provides QEMU and a kernel with an NSM driver."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from enclavectl.backends.qemu.machine import QemuMachine, clock_khz
from enclavectl.backends.qemu.vsock import HybridListener, Reactor, VsockDevice
from enclavectl.errors import StateError
from enclavectl.net.address import HybridVsockAddress, UnixAddress
from enclavectl.net.transport import connect, listening

HEARTBEAT = b"\xb7"
HEARTBEAT_PORT = 9000
_PARENT_CID = 3
# Of an emulated machine on a busy one; bounds for what hangs, never measures.
_BOOT_S = 240.0
_VARIABLES = ("ENCLAVECTL_TEST_QEMU", "ENCLAVECTL_TEST_KERNEL_ROOT")
_IS_REQUIRED = os.environ.get("ENCLAVECTL_TEST_REQUIRE_QEMU") == "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A program, and a folder into which a kernel's package was unpacked."""

    qemu: Path
    kernel_root: Path


def qemu_parts() -> Parts:
    """The lane's parts; skips the test, or fails it in CI, where there are none."""
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    if missing:
        reason = f"no QEMU with the nitro-enclave machine: {missing[0]} is not set; .ci/qemu-lane sets it"
        if _IS_REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    qemu, kernel_root = (Path(os.environ[name]) for name in _VARIABLES)
    return Parts(qemu=qemu, kernel_root=kernel_root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A machine that boots an image. ``folder`` has its console and the Unix sockets behind its vsock."""

    folder: Path
    cid: int
    qemu: subprocess.Popen[bytes]

    def address(self, port: int) -> HybridVsockAddress:
        """A port in the guest."""
        return HybridVsockAddress(_socket(self.folder, self.cid), port)

    def console(self) -> str:
        """What it has printed until now."""
        return _console(self.folder, self.cid).read_text(errors="replace")

    def connect(self, port: int) -> socket.socket:
        """A connection to a port of the guest, as soon as somebody listens there."""
        found: list[socket.socket] = []

        def is_connected() -> bool:
            with contextlib.suppress(StateError):
                found.append(connect(self.address(port), _BOOT_S))
            return bool(found)

        self.wait_for(is_connected)
        return found[0]

    def wait_for(self, is_true: Callable[[], bool]) -> None:
        """Wait for something of a guest that boots; fails the test with its last words if it ends first."""
        deadline = time.monotonic() + _BOOT_S
        while not is_true():
            if self.qemu.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the guest ended or hangs; the end of its console: {self.console()[-2000:]}")
            time.sleep(0.1)

    def wait_ended(self) -> None:
        """Wait for the guest's end."""
        self.qemu.wait(_BOOT_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A folder of sockets, each a port of the parent's or a guest's door. Guests have CIDs from 16."""

    folder: Path
    parts: Parts
    heartbeats: socket.socket
    cids: Iterator[int]

    def parent_port(self, port: int) -> UnixAddress:
        """Where the guests' connections to a port of their parent arrive; listen there."""
        return parent_port(self.folder, port)

    @contextlib.contextmanager
    def boot(self, image: Path) -> Iterator[Guest]:
        """A guest that boots ``image``; it has ended after the block."""
        with start_guest(self.parts, self.folder, next(self.cids), image) as guest:
            yield guest

    def exchange_heartbeat(self, guest: Guest) -> bytes:
        """All that its init sends to the parent's port for that, which was sent back."""
        self.heartbeats.settimeout(0.1)
        found: list[bytes] = []

        def is_exchanged() -> bool:
            with contextlib.suppress(TimeoutError), self.heartbeats.accept()[0] as sock:
                sock.settimeout(_BOOT_S)
                found.append(sock.recv(16))
                sock.sendall(found[0])
                assert sock.recv(1) == b"", "the init sent more after its heartbeat"
            return bool(found)

        guest.wait_for(is_exchanged)
        return found[0]


@contextlib.contextmanager
def start_host(parts: Parts) -> Iterator[Host]:
    """A host without guests; everything that it started has ended after the block."""
    with contextlib.ExitStack() as stack:
        # Not pytest's folder: a Unix socket's path has at most 107 bytes.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enclavectl-qemu-")))
        heartbeats = stack.enter_context(listening(parent_port(folder, HEARTBEAT_PORT)))
        yield Host(folder=folder, parts=parts, heartbeats=heartbeats, cids=count(16))


@contextlib.contextmanager
def start_guest(parts: Parts, folder: Path, cid: int, image: Path) -> Iterator[Guest]:
    """A guest beside our vsock device, in pure emulation; it has ended after the block."""
    with _device(folder, cid) as frontend:
        machine = _machine(parts, image, frontend)
        with _running(machine.to_argv(), _console(folder, cid), frontend.fileno()) as qemu:
            yield Guest(folder=folder, cid=cid, qemu=qemu)


def _machine(parts: Parts, image: Path, frontend: socket.socket) -> QemuMachine:
    return QemuMachine(
        program=parts.qemu,
        image=image,
        module_id="enclavectl-test",
        memory_mib=1024,
        cpus=1,
        uses_kvm=False,
        frontend_fd=frontend.fileno(),
        clock_khz=clock_khz(Path("/proc/cpuinfo").read_text()),
    )


@contextlib.contextmanager
def _device(folder: Path, cid: int) -> Iterator[socket.socket]:
    """Our device in a thread, and QEMU's end of its socket."""
    reactor = Reactor()
    ours, theirs = socket.socketpair()
    wake, end = socket.socketpair()
    is_over = threading.Event()
    device = VsockDevice(reactor, cid=cid, dial=lambda port: _dial(folder, port), failed=lambda _: None)
    device.attach(ours)

    def serve() -> None:
        while not is_over.is_set():
            reactor.turn()

    with listening(UnixAddress(_socket(folder, cid))) as listener, theirs:
        HybridListener(reactor, listener, device)
        reactor.watch(end.fileno(), select.EPOLLIN, lambda _: None)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield theirs
        finally:
            is_over.set()
            wake.send(b"x")
            thread.join()
            device.close()
            wake.close()
            end.close()
            reactor.close()


def _dial(folder: Path, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect(str(parent_port(folder, port).path))
    except OSError:
        sock.close()
        raise
    return sock


def parent_port(folder: Path, port: int) -> UnixAddress:
    """The socket of a port of the parent's, as Firecracker names it."""
    return UnixAddress(folder / f"{_PARENT_CID}.vsock_{port}")


def _socket(folder: Path, cid: int) -> Path:
    return folder / f"{cid}.vsock"


def _console(folder: Path, cid: int) -> Path:
    return folder / f"{cid}.console"


@contextlib.contextmanager
def _running(argv: list[str], log: Path, *fds: int) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, pass_fds=fds
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
