"""The inside of a fake enclave: the real payload server, its NSM, its console, and its end of vsock."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.local.modules import import_path
from enclavectl.backends.local.supervisor import BOOT
from tests.nitro.fake.place import Place

_BOOT_TEXT = (
    b"[    0.000000] Linux version 4.14.256-209.484.amzn2.x86_64 (simulated)\r\n"
    b"[    0.000000] Command line: reboot=k panic=30 pci=off nomodules console=ttyS0\r\n"
    b"[    0.412345] \x1b[0;32mnsm\x1b[0m: loading out-of-tree module taints kernel.\r\n"
)
# What a console that nobody reads keeps; older text is lost.
_CONSOLE_BYTES = 16 * 1024
_CHUNK = 64 * 1024
_POLL_S = 0.05


class Console:
    """The console port: what nobody read is kept for the first reader, within a bound."""

    def __init__(self, path: Path, end: str) -> None:
        """``end`` is how readers learn that it is over: ``eof``, or ``reset``, which is nitro-cli's E45."""
        self._end = end
        self._lock = threading.Lock()
        self._kept = b""
        self._readers: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self._listener.bind(os.path.relpath(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def write(self, data: bytes) -> None:
        """The guest printed this."""
        with self._lock:
            if not self._readers:
                self._kept = (self._kept + data)[-_CONSOLE_BYTES:]
            for reader in [*self._readers]:
                try:
                    reader.sendall(data)
                except OSError:
                    self._readers.remove(reader)

    def _accept(self) -> None:
        while True:
            reader, _ = self._listener.accept()
            with self._lock, suppress(OSError):
                # A byte comes with each reader; where it stays unread, the end is a reset.
                if self._end == "eof":
                    reader.recv(1)
                reader.sendall(self._kept)
                self._kept = b""
                self._readers.append(reader)


def _home(folder: Path, model: Path) -> Path:
    """Make the folder in which the payload finds its model, and a place for the tree of its sandbox."""
    home = folder / "inside"
    (home / "tree").mkdir(parents=True, exist_ok=True)
    if not (home / "model").is_symlink():
        (home / "model").symlink_to(model.absolute())
    return home


class Guest:
    """A booted virtual machine. It ends with ``kill``, with its payload, or with this process."""

    def __init__(self, place: Place, folder: Path, pcrs: Mapping[int, bytes], module_id: str) -> None:
        """``folder`` is where its own sockets are; ``pcrs`` are what its NSM attests."""
        self._place = place
        self._folder = folder
        self._nsm_parameters = (module_id, dict(pcrs))
        self._nsm, nsm_payload = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._output, output = os.pipe()
        self._inside = folder / "inside.sock"
        self._inside.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.relpath(self._inside))
        listener.listen(64)
        self._dialer, dialer_payload = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        spec = {
            "parent_pid": os.getpid(),
            "listener_fd": listener.fileno(),
            "nsm_fd": nsm_payload.fileno(),
            "memory_mib": 4096,
            "workers": 2,
            "dial_fd": dialer_payload.fileno(),
        }
        self._payload = subprocess.Popen(
            [sys.executable, "-ISB", "-c", BOOT, os.pathsep.join(import_path()), json.dumps(spec)],
            cwd=_home(folder, place.image / "model"),
            env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(listener.fileno(), nsm_payload.fileno(), dialer_payload.fileno()),
        )
        os.close(output)
        for sock in (listener, nsm_payload, dialer_payload):
            sock.close()
        self.end = os.pidfd_open(self._payload.pid)
        self._listens_at = time.monotonic() + place.settings.application_s
        self.console: Console | None = None

    def attach(self, cid: int, *, console: bool) -> None:
        """It is on vsock from now on, and prints to its console."""
        if console:
            self.console = Console(self._folder / "console.sock", self._place.settings.console_end)
            self.console.write(_BOOT_TEXT)
            threading.Thread(target=self._repeat, args=(self.console,), daemon=True).start()
        threading.Thread(target=self._answer_nsm, daemon=True).start()
        threading.Thread(target=self._dial, daemon=True).start()
        threading.Thread(target=self._print, daemon=True).start()
        path = self._place.vsock / f"{cid}.vsock"
        path.unlink(missing_ok=True)
        switch = socket.socket(socket.AF_UNIX)
        switch.bind(os.path.relpath(path))
        switch.listen(64)
        threading.Thread(target=self._switch, args=(switch,), daemon=True).start()

    def kill(self) -> None:
        """It is gone, at once: nobody asks a virtual machine."""
        self._payload.send_signal(signal.SIGKILL)
        self._payload.wait()

    def _dial(self) -> None:
        """Connect the payload to port 5006 of the parent, as often as it asks."""
        with suppress(ConnectionError):
            while self._dialer.recv(1):
                with socket.socket(socket.AF_UNIX) as sock:
                    try:
                        sock.connect(os.path.relpath(self._place.vsock / "host.vsock_5006"))
                    except OSError:
                        self._dialer.sendall(b"0")
                    else:
                        socket.send_fds(self._dialer, [b"1"], [sock.fileno()])

    def _answer_nsm(self) -> None:
        from enclave_payload.nsm import MAX_REQUEST_BYTES
        from enclavectl.backends.local.nsm import SimulatedNsm
        from enclavectl.backends.local.records import load_root

        module_id, pcrs = self._nsm_parameters
        nsm = SimulatedNsm(load_root(self._place.root), module_id, pcrs, lambda: datetime.now(UTC))
        with suppress(ConnectionError):
            while request := self._nsm.recv(MAX_REQUEST_BYTES + 1):
                self._nsm.sendall(nsm.handle(request))

    def _print(self) -> None:
        while data := os.read(self._output, _CHUNK):
            if self.console is not None:
                self.console.write(data.replace(b"\n", b"\r\n"))

    def _repeat(self, console: Console) -> None:
        """What a test wants it to print."""
        said = self._place.said
        position = said.stat().st_size if said.exists() else 0
        while True:
            time.sleep(_POLL_S)
            if said.exists() and said.stat().st_size > position:
                text = said.read_bytes()[position:]
                position += len(text)
                console.write(text.replace(b"\n", b"\r\n"))

    def _switch(self, switch: socket.socket) -> None:
        while True:
            outside, _ = switch.accept()
            threading.Thread(target=self._connect, args=(outside,), daemon=True).start()

    def _connect(self, outside: socket.socket) -> None:
        """``CONNECT port``, ``OK number``, and then the guest's stream; closed where nobody listens."""
        with outside, suppress(OSError):
            outside.settimeout(5)
            line = b""
            while not line.endswith(b"\n") and len(line) < 32:
                line += outside.recv(1) or b"\n"
            match = re.fullmatch(rb"CONNECT ([0-9]{1,10})\n", line)
            listens = time.monotonic() >= self._listens_at
            if match is None or int(match[1]) not in self._place.settings.guest_ports or not listens:
                return
            with socket.socket(socket.AF_UNIX) as inside:
                inside.connect(os.path.relpath(self._inside))
                outside.settimeout(None)
                outside.sendall(b"OK 1073741824\n")
                _relay(outside, inside)


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Both directions, each until its end; then both are closed."""
    targets = {one: other, other: one}
    while targets:
        readable, _, _ = select.select([*targets], [], [])
        for source in readable:
            data = source.recv(_CHUNK)
            if data:
                targets[source].sendall(data)
            else:
                with suppress(OSError):
                    targets[source].shutdown(socket.SHUT_WR)
                del targets[source]
