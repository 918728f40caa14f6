"""An enclave that is a machine of QEMU: its kernel, its init and its payload are real, and so is its vsock.

Only the signatures of its documents are not QEMU's: they come from the host's development root, which stands
for AWS's hypervisor.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from errno import ECONNRESET
from pathlib import Path
from typing import Any

import cbor2

from enclavectl.backends.local.nsm import SimulatedNsm
from enclavectl.backends.local.root import load_root
from enclavectl.backends.qemu.machine import QemuMachine, clock_khz
from enclavectl.backends.qemu.vsock import HybridListener, Reactor, VsockDevice
from enclavectl.run import dying_with_us
from tests.nitro.fake.guest import Console, close_listener
from tests.nitro.fake.measure import read_eif
from tests.nitro.real_host.library import preload_library
from tests.nitro.real_host.machine import Hypervisor, Machine
from tests.nitro.real_host.server import CONSOLE_PORTS, HYPERVISOR_CID, Boot, Host

_PCRS = 32
_PCR_BYTES = 48
_CHUNK = 64 * 1024
_TURN_S = 0.1


class SigningNsm(SimulatedNsm):
    """Signs what QEMU's NSM says, in AWS's form."""

    def sign(self, claims: Mapping[str, Any]) -> bytes:
        """The document with these claims' registers, key, user data and nonce."""
        registers = claims["pcrs"]
        shown = {index: value for index, value in registers.items() if index < _PCRS}
        self._pcrs = [shown.get(index, bytes(_PCR_BYTES)) for index in range(_PCRS)]
        self._locked = [index in shown for index in range(_PCRS)]
        return self._document({name: claims[name] for name in ("public_key", "user_data", "nonce")})


class QemuGuest:
    """A machine that boots the image, until ``kill`` or its own end."""

    def __init__(self, host: Host, machine: Machine, image: Path, *, is_debug: bool, program: Path) -> None:
        self._host = host
        self._cid = machine.cid
        self._console: Console | None = None
        slot = machine.slot.slot_hex
        if is_debug:
            listener = host.listener(f"{HYPERVISOR_CID}:{machine.cid + CONSOLE_PORTS}")
            self._console = Console(listener, machine.place.settings.console_end)
        root = load_root(machine.place.root)
        self._nsm = SigningNsm(root, machine.module_id, {}, lambda: datetime.now(UTC))
        self._signer = host.listener(f"sign-{slot}", socket.SOCK_SEQPACKET)
        self._door_name = f"qemu-{slot}"
        self._door = host.listener(self._door_name)
        ours, theirs = socket.socketpair()
        self._reactor = Reactor()
        self._device = VsockDevice(self._reactor, cid=machine.cid, dial=self._dial, failed=self._fail)
        self._device.attach(ours)
        self._entrance = HybridListener(self._reactor, self._door, self._device)
        qemu = QemuMachine(
            program=program,
            image=image,
            module_id=machine.module_id,
            memory_mib=machine.memory_mib,
            cpus=len(machine.cpus),
            uses_kvm=False,
            frontend_fd=theirs.fileno(),
            clock_khz=clock_khz(Path("/proc/cpuinfo").read_text()),
        )
        environment = {
            "PATH": os.environ["PATH"],
            "LD_PRELOAD": str(preload_library("signer")),
            "NE_SIGN_HOST": host.address(f"sign-{slot}")[1:],
            # What a debug-mode enclave has as zeros.
            "NE_SIGN_ZERO": "".join(_measured(image)) if is_debug else "",
        }
        self._process = subprocess.Popen(
            dying_with_us(qemu.to_argv()),
            env=environment,
            cwd=machine.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        self.end = os.pidfd_open(self._process.pid)
        for work in (self._run_device, self._sign, self._print):
            threading.Thread(target=work, daemon=True).start()

    def kill(self) -> None:
        """It is gone when this returns."""
        self._process.kill()
        self._process.wait()

    def connect_to(self, port: int) -> socket.socket:
        """A connection to a port inside.

        Raises:
            OSError: nothing there takes connections to that port.
        """
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(self._host.address(self._door_name))
            sock.sendall(b"CONNECT %d\n" % port)
            reply = b""
            while not reply.endswith(b"\n"):
                byte = sock.recv(1)
                if not byte:
                    raise ConnectionResetError(ECONNRESET, os.strerror(ECONNRESET))
                reply += byte
        except OSError:
            sock.close()
            raise
        assert re.fullmatch(rb"OK [0-9]+\n", reply)
        return sock

    def _dial(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            self._host.connect_to_parent(sock, self._cid, port)
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        return sock

    def _fail(self, reason: str) -> None:
        if self._console is not None:
            self._console.write(f"vsock: {reason}\r\n".encode())
        self._process.kill()

    def _run_device(self) -> None:
        while self._process.poll() is None:
            self._reactor.turn(_TURN_S)
        self._entrance.close()
        self._device.close()
        self._reactor.close()
        for listener in (self._door, self._signer):
            close_listener(listener)

    def _sign(self) -> None:
        while True:
            try:
                sock, _ = self._signer.accept()
            except OSError:
                return
            with sock, suppress(OSError):
                claims = cbor2.loads(sock.recv(_CHUNK))
                sock.sendall(self._nsm.sign(claims))

    def _print(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            while data := os.read(output.fileno(), _CHUNK):
                if self._console is not None:
                    self._console.write(data)
        if self._console is not None:
            self._console.close()


def _measured(image: Path) -> list[str]:
    found = read_eif(str(image), "measure", "host").measurements
    assert found is not None
    return list(found.registers().values())


def qemu_boot(program: Path) -> Boot:
    """Boot machines of this QEMU."""

    def boot(host: Host, machine: Machine, image: Path, is_debug: bool) -> Hypervisor:
        return QemuGuest(host, machine, image, is_debug=is_debug, program=program)

    return boot
