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
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from errno import ECONNRESET
from pathlib import Path
from typing import Protocol

from enclave_payload.card import SEALED_MARK, SEALED_MARK_CONTENT
from enclavectl.backends.local.modules import import_path
from enclavectl.backends.local.supervisor import BOOT, LISTEN
from enclavectl.weights.release_port import PORT as RELEASE_PORT
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

    def __init__(self, listener: socket.socket, end: str) -> None:
        """``end`` is how readers learn that it is over: ``eof``, or ``reset``, which is nitro-cli's E45."""
        self._end = end
        self._lock = threading.Lock()
        self._kept = b""
        self._readers: list[socket.socket] = []
        self._listener = listener
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
                    reader.close()

    def close(self) -> None:
        """The guest is gone; its readers see the end after the last that it printed."""
        with self._lock:
            close_listener(self._listener)
            for reader in self._readers:
                reader.close()
            self._readers.clear()

    def _accept(self) -> None:
        while True:
            try:
                reader, _ = self._listener.accept()
            except OSError:
                return  # it is closed
            with self._lock, suppress(OSError):
                # A byte comes with each reader; where it stays unread, the end is a reset.
                if self._end == "eof":
                    reader.recv(1)
                reader.sendall(self._kept)
                self._kept = b""
                self._readers.append(reader)


def _home(folder: Path, model: Path, *, is_sealed: bool) -> Path:
    """Make the folder in which the payload finds its model, and a place for the tree of its sandbox."""
    home = folder / "inside"
    (home / "tree").mkdir(parents=True, exist_ok=True)
    if is_sealed:
        (home / "model").mkdir()
        (home / "model" / SEALED_MARK).write_bytes(SEALED_MARK_CONTENT)
    elif not (home / "model").is_symlink():
        (home / "model").symlink_to(model.absolute())
    return home


class Ways(Protocol):
    """The sockets between a guest and its host."""

    def inside(self, name: str, /) -> tuple[socket.socket, Callable[[socket.socket], None]]:
        """One of the payload's listeners, and what connects a socket to it."""

    def console(self, cid: int, /) -> socket.socket:
        """The listener of its console."""

    def connect_to_parent(self, sock: socket.socket, cid: int, /) -> None:
        """Connect to port 5006 of the parent, or raise OSError."""

    def open_door(self, guest: Guest, cid: int) -> None:
        """Let the parent in, from now on."""

    def close(self) -> None:
        """The guest is gone."""


class Guest:
    """A booted virtual machine. It ends with ``kill``, with its payload, or with the thread that made it."""

    def __init__(
        self, place: Place, folder: Path, pcrs: Mapping[int, bytes], module_id: str, ways: Ways
    ) -> None:
        """``folder`` is its own; ``pcrs`` are what its NSM attests."""
        self._place = place
        self._ways = ways
        self._nsm_parameters = (module_id, dict(pcrs))
        self._nsm, nsm_payload = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._output, output = os.pipe()
        listener, connect = ways.inside("inside")
        self._ports = dict.fromkeys(place.settings.guest_ports, connect)
        inherited = [listener, nsm_payload]
        is_sealed = place.settings.sealed
        # Its listener is there, and nobody is let in before the payload says that it serves.
        self._when_serving, self._ports = (self._ports, {}) if is_sealed else ({}, self._ports)
        if is_sealed:
            release, self._ports[RELEASE_PORT] = ways.inside("release")
            inherited.append(release)
        self._dialer, dialer_payload = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inherited.append(dialer_payload)
        spec = {
            "parent_pid": os.getpid(),
            "listener_fd": listener.fileno(),
            "nsm_fd": nsm_payload.fileno(),
            "memory_mib": 4096,
            "workers": 2,
            "dial_fd": dialer_payload.fileno(),
            "release_fd": release.fileno() if is_sealed else None,
        }
        self._payload = subprocess.Popen(
            [sys.executable, "-ISB", "-c", BOOT, os.pathsep.join(import_path()), json.dumps(spec)],
            cwd=_home(folder, place.image / "model", is_sealed=is_sealed),
            env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[sock.fileno() for sock in inherited],
        )
        os.close(output)
        for sock in inherited:
            sock.close()
        self.end = os.pidfd_open(self._payload.pid)
        self._listens_at = time.monotonic() + place.settings.application_s
        self.console: Console | None = None

    def attach(self, cid: int, *, console: bool) -> None:
        """It is on vsock from now on, and prints to its console."""
        if console:
            self.console = Console(self._ways.console(cid), self._place.settings.console_end)
            self.console.write(_BOOT_TEXT)
            threading.Thread(target=self._repeat, args=(self.console,), daemon=True).start()
        threading.Thread(target=self._answer_nsm, daemon=True).start()
        threading.Thread(target=self._dial, args=(cid,), daemon=True).start()
        threading.Thread(target=self._print, daemon=True).start()
        self._ways.open_door(self, cid)

    def kill(self) -> None:
        """It is gone, at once: nobody asks a virtual machine."""
        self._payload.send_signal(signal.SIGKILL)
        self._payload.wait()

    def connect_to(self, port: int) -> socket.socket:
        """A connection to a port inside.

        Raises:
            OSError: nothing there takes connections to that port, or it is gone.
        """
        connect = self._ports.get(port)
        if connect is None or time.monotonic() < self._listens_at:
            raise ConnectionResetError(ECONNRESET, os.strerror(ECONNRESET))
        sock = socket.socket(socket.AF_UNIX)
        try:
            connect(sock)
        except OSError:
            sock.close()
            raise
        return sock

    def _dial(self, cid: int) -> None:
        """Connect the payload to port 5006 of the parent, or open its port for pictures, when it asks."""
        with self._dialer, suppress(ConnectionError):
            while word := self._dialer.recv(1):
                if word == LISTEN:
                    self._ports |= self._when_serving
                    self._dialer.sendall(b"1")
                    continue
                with socket.socket(socket.AF_UNIX) as sock:
                    try:
                        self._ways.connect_to_parent(sock, cid)
                    except OSError:
                        self._dialer.sendall(b"0")
                    else:
                        socket.send_fds(self._dialer, [b"1"], [sock.fileno()])

    def _answer_nsm(self) -> None:
        from enclave_payload.nsm import MAX_REQUEST_BYTES
        from enclavectl.backends.local.nsm import SimulatedNsm
        from enclavectl.backends.local.root import load_root

        module_id, pcrs = self._nsm_parameters
        nsm = SimulatedNsm(load_root(self._place.root), module_id, pcrs, lambda: datetime.now(UTC))
        with self._nsm, suppress(ConnectionError):
            while request := self._nsm.recv(MAX_REQUEST_BYTES + 1):
                self._nsm.sendall(nsm.handle(request))

    def _print(self) -> None:
        while data := os.read(self._output, _CHUNK):
            if self.console is not None:
                self.console.write(data.replace(b"\n", b"\r\n"))
        os.close(self._output)
        self._ways.close()
        if self.console is not None:
            self.console.close()

    def _repeat(self, console: Console) -> None:
        """What a test wants it to print."""
        said = self._place.said
        position = said.stat().st_size if said.exists() else 0
        while self._payload.returncode is None:
            time.sleep(_POLL_S)
            if said.exists() and said.stat().st_size > position:
                text = said.read_bytes()[position:]
                position += len(text)
                console.write(text.replace(b"\n", b"\r\n"))


class HybridWays:
    """Sockets in the host's folders: hybrid vsock. The process is in the host's home."""

    def __init__(self, place: Place, folder: Path) -> None:
        self._place = place
        self._folder = folder
        self._door: socket.socket | None = None

    def inside(self, name: str) -> tuple[socket.socket, Callable[[socket.socket], None]]:
        """One of the payload's listeners, and what connects a socket to it."""
        path = self._folder / f"{name}.sock"
        # Short from the folder that this process is in by then.
        return _listener(path), lambda sock: sock.connect(os.path.relpath(path))

    def console(self, _cid: int) -> socket.socket:
        """The listener of its console: one for each enclave's folder."""
        return _listener(self._folder / "console.sock")

    def connect_to_parent(self, sock: socket.socket, _cid: int) -> None:
        """Connect to port 5006 of the parent, or raise OSError."""
        sock.connect(os.path.relpath(self._place.vsock / "host.vsock_5006"))

    def open_door(self, guest: Guest, cid: int) -> None:
        """Let the parent in, from now on."""
        self._door = _listener(self._place.vsock / f"{cid}.vsock")
        threading.Thread(target=_admit, args=(self._door, guest), daemon=True).start()

    def close(self) -> None:
        """The guest is gone."""
        close_listener(self._door)


def _listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(os.path.relpath(path))
    sock.listen(64)
    return sock


def close_listener(sock: socket.socket | None) -> None:
    """Close a listening socket, and wake whoever accepts."""
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def _admit(door: socket.socket, guest: Guest) -> None:
    while True:
        try:
            outside, _ = door.accept()
        except OSError:
            return  # it is closed
        threading.Thread(target=_connect, args=(outside, guest), daemon=True).start()


def _connect(outside: socket.socket, guest: Guest) -> None:
    """``CONNECT port``, ``OK number``, and then the guest's stream; closed where nobody listens."""
    with outside, suppress(OSError):
        outside.settimeout(5)
        line = b""
        while not line.endswith(b"\n") and len(line) < 32:
            line += outside.recv(1) or b"\n"
        match = re.fullmatch(rb"CONNECT ([0-9]{1,10})\n", line)
        if match is None:
            return
        with guest.connect_to(int(match[1])) as inside:
            outside.settimeout(None)
            outside.sendall(b"OK 1073741824\n")
            relay(outside, inside)


def relay(
    one: socket.socket,
    other: socket.socket,
    passed: Callable[[socket.socket, int], None] = lambda _s, _n: None,
) -> None:
    """Both directions, each until its end. ``passed`` is told how many bytes went on from whom."""
    targets = {one: other, other: one}
    while targets:
        readable, _, _ = select.select([*targets], [], [])
        for source in readable:
            data = source.recv(_CHUNK)
            if data:
                targets[source].sendall(data)
                passed(source, len(data))
            else:
                with suppress(OSError):
                    targets[source].shutdown(socket.SHUT_WR)
                del targets[source]
