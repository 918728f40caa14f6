"""The QEMU lane: .ci/qemu-lane provides QEMU, the vsock device beside it, and a kernel with an NSM driver."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclavectl.errors import StateError
from enclavectl.net.address import HybridVsockAddress, UnixAddress
from enclavectl.net.transport import connect, listening

HEARTBEAT = b"\xb7"
HEARTBEAT_PORT = 9000
_PARENT_CID = 3
# The guests of one host, of which each is started once.
_GUEST_CIDS = (16, 17, 18, 19, 20)
# Of an emulated machine on a busy one; bounds for what hangs, never measures.
_BOOT_S = 240.0
_START_S = 30.0
_VARIABLES = ("ENCLAVECTL_TEST_QEMU", "ENCLAVECTL_TEST_VHOST_DEVICE_VSOCK", "ENCLAVECTL_TEST_KERNEL_ROOT")
_IS_REQUIRED = os.environ.get("ENCLAVECTL_TEST_REQUIRE_QEMU") == "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Two programs, and a folder into which a kernel's package was unpacked."""

    qemu: Path
    device: Path
    kernel_root: Path


def qemu_parts() -> Parts:
    """The lane's parts; skips the test, or fails it in CI, where there are none."""
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    if missing:
        reason = f"no QEMU with the nitro-enclave machine: {missing[0]} is not set; .ci/qemu-lane sets it"
        if _IS_REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    qemu, device, kernel_root = (Path(os.environ[name]) for name in _VARIABLES)
    return Parts(qemu=qemu, device=device, kernel_root=kernel_root)


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
    """A vsock device for a few guests, and the first of them: the others' parent, which passes on to us."""

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
def start_host(parts: Parts, parent_image: Path) -> Iterator[Host]:
    """A host whose parent guest is up; everything that it started has ended after the block."""
    with contextlib.ExitStack() as stack:
        # Not pytest's folder: a Unix socket's path has at most 107 bytes.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enclavectl-qemu-")))
        heartbeats = stack.enter_context(listening(parent_port(folder, HEARTBEAT_PORT)))
        argv = [str(parts.device)]
        for cid in (_PARENT_CID, *_GUEST_CIDS):
            argv += [
                "--vm",
                f"guest-cid={cid},uds-path={_socket(folder, cid)},socket={_frontend(folder, cid)}",
            ]
        stack.enter_context(_running(argv, folder / "device.log"))
        parent = stack.enter_context(start_guest(parts, folder, _PARENT_CID, parent_image))
        parent.wait_for(lambda: parent.console().count("parent: port ") == 2)
        yield Host(folder=folder, parts=parts, heartbeats=heartbeats, cids=iter(_GUEST_CIDS))


@contextlib.contextmanager
def start_guest(parts: Parts, folder: Path, cid: int, image: Path) -> Iterator[Guest]:
    """A guest of the device in ``folder``, in pure emulation; it has ended after the block."""
    frontend = _frontend(folder, cid)
    deadline = time.monotonic() + _START_S
    while not frontend.exists():
        assert time.monotonic() < deadline, (folder / "device.log").read_text()
        time.sleep(0.02)
    # acpi: without it the devices are named on the kernel's command line, which Debian's does not read.
    argv = [str(parts.qemu), "-M", "nitro-enclave,vsock=v,id=enclavectl-test,acpi=on", "-kernel", str(image)]
    argv += ["-chardev", f"socket,id=v,path={frontend}", "-nographic", "-no-reboot", "-m", "1024M"]
    argv += ["-accel", "tcg", "-cpu", "max", "-append", f"tsc=reliable tsc_early_khz={_tsc_khz()}"]
    with _running(argv, _console(folder, cid)) as qemu:
        yield Guest(folder=folder, cid=cid, qemu=qemu)


def parent_port(folder: Path, port: int) -> UnixAddress:
    """https://github.com/rust-vmm/vhost-device/blob/main/vhost-device-vsock/README.md, as in Firecracker."""
    return UnixAddress(folder / f"{_PARENT_CID}.vsock_{port}")


def _socket(folder: Path, cid: int) -> Path:
    return folder / f"{cid}.vsock"


def _frontend(folder: Path, cid: int) -> Path:
    return folder / f"{cid}.vhost"


def _console(folder: Path, cid: int) -> Path:
    return folder / f"{cid}.console"


def _tsc_khz() -> int:
    """About how fast this machine's time stamp counter runs, and so the guest's.

    The kernel would measure it against an emulated timer. On a busy host that fails, and as a machine with
    ACPI has no other clock, the boot would hang. QEMU does not measure what it appends to the command line.
    """
    found = re.search(r"^cpu MHz\s*: ([0-9]+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1000 if found else 2_000_000


@contextlib.contextmanager
def _running(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
