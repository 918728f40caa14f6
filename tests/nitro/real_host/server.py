"""The host behind the preload library: the driver's requests, and vsock between the parent and its enclaves.

It runs in threads of the test: what it knows can be looked at, and nothing of it outlives the test. One
connection is one open descriptor of the driver's; its end is that descriptor's, also where its process was
killed.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from errno import EACCES, ECONNRESET, EIO, ENOENT, ENOTTY
from itertools import count
from pathlib import Path

from tests.nitro.fake.driver import IoctlError
from tests.nitro.fake.failure import Failure
from tests.nitro.fake.guest import Guest, HybridWays, close_listener, relay
from tests.nitro.fake.measure import read_eif, registers
from tests.nitro.fake.place import Place
from tests.nitro.real_host.machine import IMAGE_OFFSET, Hypervisor, Machine

# shim.h
_REQUEST = struct.Struct("=QQQQ")
_REPLY = struct.Struct("=qQQ")
_OPEN, _CREATE, _PAGE, _UNPAGE, _LOAD_INFO, _REGION, _VCPU, _START, _RELEASE, _BOUND = range(1, 11)
_PORT_REQUEST = struct.Struct("=II")
HYPERVISOR_CID = 0
_PARENT = 3
_HEARTBEAT_PORT, _HEARTBEAT = 9000, b"\xb7"
CONSOLE_PORTS = 10_000
_FIRST_FREE_PORT = 1 << 30


# (the host, the machine, its image, whether its console is open) to what runs inside.
Boot = Callable[["Host", Machine, Path, bool], Hypervisor]


class Host:
    """A host that enclaves can be launched on, until ``close``."""

    def __init__(self, name: str, place_of: Callable[[], Place], boot: Boot | None = None) -> None:
        """``name`` is that of its sockets; ``place_of`` reads what kind of host it is today."""
        self.name = name
        self.place_of = place_of
        self._boot = boot or boot_process
        # What the parent has sent to its enclaves, in all.
        self.sent_bytes = 0
        self._machines: dict[int, Machine] = {}
        self._source_ports = count(_FIRST_FREE_PORT)
        # Whoever else listens on the port of the heartbeat.
        self._other: socket.socket | None = None
        self._driver = self.listener("host", socket.SOCK_SEQPACKET)
        self._door = self.listener("guests")
        for listener, serve in ((self._driver, self._serve_device), (self._door, self._serve_stream)):
            threading.Thread(target=self._accept, args=(listener, serve), daemon=True).start()

    def close(self) -> None:
        """No call reaches it any more. What runs ends with the descriptors that hold it."""
        for listener in (self._driver, self._door, self._other):
            close_listener(listener)

    def address(self, name: str) -> str:
        """The abstract address of one of its sockets."""
        return f"\0ne|{self.name}|{name}"

    def listener(self, name: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A listening socket of the host's; ``CID:PORT`` is one of vsock's."""
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.bind(self.address(name))
        sock.listen(512)
        return sock

    def connect_to_parent(self, sock: socket.socket, cid: int, port: int) -> None:
        """Connect a socket to a port of the parent, as the enclave of that CID.

        Raises:
            OSError: nobody listens there.
        """
        sock.bind(self.address(f"{cid}:{next(self._source_ports)}"))
        sock.connect(self.address(f"{_PARENT}:{port}"))

    def report_boot(self, machine: Machine) -> None:
        """What init does first: a byte to the parent's port 9000, which comes back."""
        if not machine.await_boot():
            return
        with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
            self.connect_to_parent(sock, machine.cid, _HEARTBEAT_PORT)
            sock.sendall(_HEARTBEAT)
            sock.recv(1)

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    def _serve_device(self, sock: socket.socket) -> None:
        """One descriptor of the driver's, until it is closed."""
        machine: Machine | None = None
        with sock:
            try:
                while True:
                    self._await_request(sock, machine)
                    data, descriptors, _, _ = socket.recv_fds(sock, _REQUEST.size, 1)
                    if len(data) < _REQUEST.size:
                        return
                    op, *numbers = _REQUEST.unpack(data)
                    if op == _CREATE:
                        machine, reply = self._create()
                        socket.send_fds(sock, [reply], [machine.enclave_end] if machine else [])
                        if machine:
                            os.close(machine.enclave_end)
                    else:
                        sock.sendall(self._answer(op, numbers, machine, descriptors))
            except OSError:
                return  # it is gone while we answer
            finally:
                if machine is not None:
                    self._machines.pop(machine.cid, None)
                    machine.release()

    def _await_request(self, sock: socket.socket, machine: Machine | None) -> None:
        """Wait for a request, or the descriptor's end; a guest that ends meanwhile hangs up."""
        guest = machine.guest if machine is not None else None
        if machine is not None and guest is not None and machine.is_open:
            watched: list[socket.socket | int] = [sock, guest.end]
            if guest.end in select.select(watched, [], [])[0]:
                self._machines.pop(machine.cid, None)
                machine.hang_up()
        select.select([sock], [], [])

    def _start(self, machine: Machine, image: Path, is_debug: bool) -> Hypervisor:
        return self._boot(self, machine, image, is_debug)

    def _create(self) -> tuple[Machine | None, bytes]:
        is_taken = self.place_of().settings.port_9000_taken
        if is_taken and self._other is None:
            self._other = self.listener(f"{_PARENT}:{_HEARTBEAT_PORT}")
        elif not is_taken:
            close_listener(self._other)
            self._other = None
        try:
            machine = Machine(self.place_of(), self._start)
        except IoctlError as exc:
            return None, _REPLY.pack(exc.number, 0, 0)
        return machine, _REPLY.pack(0, int(machine.slot.slot_hex, 16), 0)

    def _answer(self, op: int, numbers: list[int], machine: Machine | None, given: list[int]) -> bytes:
        try:
            if op == _OPEN:
                values = self._open()
            elif machine is None:
                return _REPLY.pack(ENOTTY, 0, 0)
            elif op == _START:
                values = (numbers[0], machine.start(numbers[0], numbers[1]))
                self._machines[machine.cid] = machine
            elif op == _RELEASE:
                self._machines.pop(machine.cid, None)
                values = machine.release()
            else:
                values = self._prepare(op, numbers, machine, given)
        except IoctlError as exc:
            return _REPLY.pack(exc.number, 0, 0)
        except Failure:  # no image that boots
            return _REPLY.pack(EIO, 0, 0)
        except OSError as exc:
            return _REPLY.pack(exc.errno or EIO, 0, 0)
        return _REPLY.pack(0, *values)

    def _prepare(self, op: int, numbers: list[int], machine: Machine, given: list[int]) -> tuple[int, int]:
        """What comes before the start."""
        a, b, c = numbers
        if op == _PAGE:
            machine.add_page(a)
        elif op == _UNPAGE:
            machine.remove_page(a)
        elif op == _LOAD_INFO:
            return IMAGE_OFFSET, 0
        elif op == _REGION:
            machine.add_region(a, b, c, given[0] if given else None)
        elif op == _VCPU:
            return machine.add_cpu(a), 0
        elif op == _BOUND:
            bound_s = self.place_of().settings.boot_timeout_s
            return a if bound_s is None else int(bound_s * 1000), 0
        else:
            raise OSError(ENOTTY, os.strerror(ENOTTY))
        return 0, 0

    def _open(self) -> tuple[int, int]:
        device = self.place_of().settings.device
        if device != "ok":
            raise OSError(EACCES if device == "denied" else ENOENT, device)
        return 0, 0

    def _serve_stream(self, outside: socket.socket) -> None:
        """One connection of the parent's to an enclave."""
        with outside, suppress(OSError):
            data = outside.recv(_PORT_REQUEST.size, socket.MSG_WAITALL)
            if len(data) < _PORT_REQUEST.size:
                return
            cid, port = _PORT_REQUEST.unpack(data)
            machine = self._machines.get(cid)
            if machine is None:
                self._refuse(outside, self.place_of().settings.absent_cid)
                return
            guest = machine.guest
            try:
                inside = guest.connect_to(port) if guest is not None else None
            except OSError:
                inside = None
            if inside is None:
                self._refuse(outside, ECONNRESET)
                return
            with inside:
                outside.sendall(struct.pack("=i", 0))
                relay(outside, inside, lambda source, size: self._count(source is outside, size))

    def _count(self, is_from_parent: bool, size: int) -> None:
        if is_from_parent:
            self.sent_bytes += size

    def _refuse(self, outside: socket.socket, error: int) -> None:
        if error == 0:
            outside.recv(1)  # nobody answers; it goes when it has waited enough
            return
        outside.sendall(struct.pack("=i", error))


def boot_process(host: Host, machine: Machine, image: Path, is_debug: bool) -> Hypervisor:
    """The payload in a process, for a guest."""
    place = machine.place
    found = read_eif(str(image), "measure", "host").measurements
    assert found is not None
    pcrs = registers(found, place.settings.instance, debug=is_debug)
    guest = Guest(place, machine.folder, pcrs, machine.module_id, AbstractWays(host, machine))
    guest.attach(machine.cid, console=is_debug)
    threading.Thread(target=host.report_boot, args=(machine,), daemon=True).start()
    return guest


class AbstractWays:
    """The sockets between a guest that is a process and this host."""

    def __init__(self, host: Host, machine: Machine) -> None:
        self._host = host
        self._machine = machine
        self._hybrid = HybridWays(machine.place, machine.folder)

    def inside(self, name: str) -> tuple[socket.socket, Callable[[socket.socket], None]]:
        """One of the payload's listeners, and what connects a socket to it."""
        name = f"{name}-{self._machine.slot.slot_hex}"
        return self._host.listener(name), lambda sock: sock.connect(self._host.address(name))

    def console(self, cid: int) -> socket.socket:
        """The listener of its console."""
        return self._host.listener(f"{HYPERVISOR_CID}:{cid + CONSOLE_PORTS}")

    def connect_to_parent(self, sock: socket.socket, cid: int) -> None:
        """Connect to port 5006 of the parent, or raise OSError."""
        self._host.connect_to_parent(sock, cid, 5006)

    def open_door(self, guest: Guest, cid: int) -> None:
        """The host's one door is open already; here is another, for who has no preload library: a test."""
        self._hybrid.open_door(guest, cid)

    def close(self) -> None:
        """The guest is gone."""
        self._hybrid.close()
