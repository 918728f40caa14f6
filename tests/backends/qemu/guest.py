"""A guest's vsock driver, and QEMU beside it: every byte that a device reads can be a lie."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from enclavectl.backends.qemu.vsock import Reactor, VsockDevice
from enclavectl.backends.qemu.vsock.packet import HEADER_BYTES, Header, Op

CID, PARENT = 16, 3
SIZE = 8
BASE, USER, BYTES = 0x100000, 0x7F0000000000, 1 << 20
BUFFER = 4096
# Offsets in the memory: two queues of three parts each, then the buffers.
_QUEUES = (0, 0x1000)
DESCRIPTORS, AVAILABLE, USED = 0, 0x200, 0x400
_TO_GUEST_BUFFERS, _FROM_GUEST_BUFFERS = 0x10000, 0x20000
TO_GUEST, FROM_GUEST = 0, 1
NEXT, WRITE, INDIRECT = 1, 2, 4


def refuse(_port: int) -> socket.socket:
    """Dial a port of a parent on which nobody listens."""
    raise ConnectionRefusedError


def packet(
    op: int, port: int = 5000, to: int = 5006, data: bytes = b"", *, changed: dict[str, int] | None = None
) -> bytes:
    """A packet from the guest, with fields changed."""
    header = Header(
        source_cid=CID,
        target_cid=PARENT,
        source_port=port,
        target_port=to,
        length=len(data),
        kind=1,
        op=op,
        flags=0,
        buf_alloc=1 << 16,
        fwd_cnt=0,
    )
    return header._replace(**(changed or {})).pack() + data


@dataclass
class Guest:
    """A guest with its device. ``failures`` are the reasons that the device gave for its end.

    With ``link``, QEMU's end of a device's socket, the device is another process's.
    """

    dial: Callable[[int], socket.socket] = refuse
    link: socket.socket | None = None
    reactor: Reactor = field(default_factory=Reactor)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fd = os.memfd_create("guest", os.MFD_ALLOW_SEALING)
        os.truncate(self.fd, BYTES)
        self.device = VsockDevice(self.reactor, cid=CID, dial=self.dial, failed=self.failures.append)
        self.qemu, theirs = socket.socketpair()
        self.device.attach(theirs)
        self.qemu = self.qemu if self.link is None else self.link
        self.qemu.setblocking(False)
        self.kicks = [os.eventfd(0, os.EFD_NONBLOCK) for _ in _QUEUES]
        self.calls = [os.eventfd(0, os.EFD_NONBLOCK) for _ in _QUEUES]
        self.offered = [0, 0]
        self.seen = [0, 0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.device.close()
        self.qemu.close()
        self.reactor.close()
        for fd in (self.fd, *self.kicks, *self.calls):
            os.close(fd)

    def turn(self, times: int = 8) -> None:
        """Let the device do what it has to do."""
        if self.link is not None:
            time.sleep(0.05)
        for _ in range(times):
            self.reactor.turn(0)

    def ask(self, request: int, body: bytes = b"", *fds: int, flags: int = 1) -> bytes:
        """Send a vhost-user request; return the answer, if the device gives one, and has not ended."""
        try:
            socket.send_fds(self.qemu, [struct.pack("<III", request, flags, len(body)) + body], list(fds))
            self.turn(2)
            return self.qemu.recv(4096)
        except (BlockingIOError, BrokenPipeError):
            return b""

    def boot(self) -> Guest:
        """Do what QEMU does until the guest's driver is up, and offer every receive buffer."""
        self.ask(5, struct.pack("<IIQQQQ", 1, 0, BASE, BYTES, USER, 0), self.fd)
        for index in (TO_GUEST, FROM_GUEST):
            self.start_queue(index)
        for _ in range(SIZE):
            self.offer(TO_GUEST)
        self.turn()
        return self

    def start_queue(self, index: int, size: int = SIZE, shift: int = 0) -> None:
        """Describe a queue; ``shift`` moves it."""
        start = USER + _QUEUES[index] + shift
        self.ask(8, struct.pack("<II", index, size))
        self.ask(10, struct.pack("<II", index, 0))
        rings = (start + DESCRIPTORS, start + USED, start + AVAILABLE)
        self.ask(9, struct.pack("<IIQQQQ", index, 0, *rings, 0))
        self.ask(13, struct.pack("<Q", index), self.calls[index])
        self.ask(12, struct.pack("<Q", index), self.kicks[index])
        self.ask(18, struct.pack("<II", index, 1))

    def write(self, offset: int, data: bytes) -> None:
        os.pwrite(self.fd, data, offset)

    def descriptor(self, index: int, number: int, fields: tuple[int, int, int, int]) -> None:
        """Write a descriptor: address, length, flags, next."""
        self.write(_QUEUES[index] + DESCRIPTORS + 16 * number, struct.pack("<QIHH", *fields))

    def offer(self, index: int, head: int | None = None) -> None:
        """Offer the next buffer, and kick."""
        slot = self.offered[index] % SIZE
        if index == TO_GUEST:
            self.descriptor(index, slot, (BASE + _TO_GUEST_BUFFERS + slot * BUFFER, BUFFER, WRITE, 0))
        self.write(
            _QUEUES[index] + AVAILABLE + 4 + 2 * slot, struct.pack("<H", slot if head is None else head)
        )
        self.offered[index] += 1
        self.write(_QUEUES[index] + AVAILABLE + 2, struct.pack("<H", self.offered[index] & 0xFFFF))
        os.eventfd_write(self.kicks[index], 1)

    def send(self, data: bytes) -> None:
        """Send a packet in one descriptor, and let the device answer."""
        slot = self.offered[FROM_GUEST] % SIZE
        # Each of its own 128 KiB, as the largest packets have 64.
        offset = _FROM_GUEST_BUFFERS + slot * 0x18000
        self.write(offset, data)
        self.descriptor(FROM_GUEST, slot, (BASE + offset, len(data), 0, 0))
        self.offer(FROM_GUEST)
        self.turn()

    def received(self) -> list[tuple[Header, bytes]]:
        """Take what the device has put into the receive buffers since the last time, and offer them again."""
        self.turn()
        found = []
        used = struct.unpack("<H", os.pread(self.fd, 2, _QUEUES[TO_GUEST] + USED + 2))[0]
        while self.seen[TO_GUEST] & 0xFFFF != used:
            entry = _QUEUES[TO_GUEST] + USED + 4 + 8 * (self.seen[TO_GUEST] % SIZE)
            head, written = struct.unpack("<II", os.pread(self.fd, 8, entry))
            data = os.pread(self.fd, written, _TO_GUEST_BUFFERS + head * BUFFER)
            header = Header(*struct.unpack_from("<QQIIIHHIII", data))
            assert len(data) == HEADER_BYTES + header.length
            found.append((header, data[HEADER_BYTES:]))
            self.seen[TO_GUEST] += 1
            self.offer(TO_GUEST)
        return found

    def ops(self) -> list[int]:
        return [header.op for header, _ in self.received()]

    def connected(self, to: int = 5006, port: int = 5000) -> None:
        """Connect a port of the guest to one of the parent's."""
        self.send(packet(Op.REQUEST, port, to))
        assert self.ops() == [Op.RESPONSE]
