"""The vsock device beside a guest that keeps the rules, and beside one that lies in every field."""

from __future__ import annotations

import gc
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enclavectl.backends.qemu.vsock.connection import BUFFER_BYTES
from enclavectl.backends.qemu.vsock.connections import MAX_CONNECTIONS
from enclavectl.backends.qemu.vsock.packet import Op, Shut
from tests.backends.qemu.guest import (
    AVAILABLE,
    BASE,
    BYTES,
    CID,
    FROM_GUEST,
    INDIRECT,
    NEXT,
    PARENT,
    SIZE,
    TO_GUEST,
    USER,
    WRITE,
    Guest,
    packet,
)


class Parent:
    """The parent's ports: each dialed connection's other end, in order."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []

    def dial(self, port: int) -> socket.socket:
        if port == 1:
            raise ConnectionRefusedError
        guest, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.ends.append(ours)
        return guest


@pytest.fixture
def parent() -> Iterator[Parent]:
    made = Parent()
    yield made
    for end in made.ends:
        end.close()


@pytest.fixture
def guest(parent: Parent) -> Iterator[Guest]:
    with Guest(dial=parent.dial) as made:
        yield made.boot()


def test_a_guest_is_told_its_cid_and_what_the_device_can(guest: Guest) -> None:
    assert guest.ask(1)[12:] == struct.pack("<Q", 1 << 32 | 1 << 30)
    assert guest.ask(15)[12:] == struct.pack("<Q", 1 | 1 << 9)
    assert guest.ask(17)[12:] == struct.pack("<Q", 2)
    config = guest.ask(24, struct.pack("<III", 0, 8, 0) + bytes(8))
    assert config[24:] == struct.pack("<Q", CID)
    assert guest.ask(24, struct.pack("<III", 4, 8, 0) + bytes(8))[24:] == bytes(8)


def test_bytes_of_the_guest_arrive_and_answers_come_back(guest: Guest, parent: Parent) -> None:
    guest.send(packet(Op.REQUEST))
    [(header, _)] = guest.received()
    assert (header.op, header.source_cid, header.target_cid) == (Op.RESPONSE, PARENT, CID)
    assert (header.source_port, header.target_port) == (5006, 5000)
    guest.send(packet(Op.RW, data=b"question"))
    assert parent.ends[0].recv(100) == b"question"
    parent.ends[0].send(b"answer")
    [(header, data)] = guest.received()
    assert (header.op, data, header.fwd_cnt) == (Op.RW, b"answer", len(b"question"))


def test_64_kib_in_one_packet_arrive_whole(guest: Guest, parent: Parent) -> None:
    guest.connected()
    data = os.urandom(64 * 1024)
    guest.send(packet(Op.RW, data=data))
    found = b""
    while len(found) < len(data):
        found += parent.ends[0].recv(1 << 20)
        guest.turn()
    assert found == data
    assert not guest.failures


def test_what_is_larger_than_a_receive_buffer_is_split(guest: Guest, parent: Parent) -> None:
    guest.connected()
    data = os.urandom(20_000)
    parent.ends[0].send(data)
    found = b""
    while len(found) < len(data):
        found += b"".join(part for _, part in guest.received())
    assert found == data


def test_a_port_without_a_listener_is_reset(guest: Guest) -> None:
    guest.send(packet(Op.REQUEST, to=1))
    assert guest.ops() == [Op.RST]


def test_a_host_connection_waits_for_the_guests_answer(guest: Guest) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    answers: list[bool] = []
    guest.device.connect(theirs, 5005, answers.append)
    [(asked, _)] = guest.received()
    assert (asked.op, asked.target_port, answers) == (Op.REQUEST, 5005, [])
    guest.send(packet(Op.RESPONSE, 5005, asked.source_port))
    assert answers == [True]
    ours.send(b"x")
    assert [data for _, data in guest.received()] == [b"x"]
    ours.close()


def test_a_host_connection_to_a_port_without_a_listener_is_refused(guest: Guest) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    answers: list[bool] = []
    guest.device.connect(theirs, 77, answers.append)
    [(asked, _)] = guest.received()
    guest.send(packet(Op.RST, 77, asked.source_port))
    assert answers == [False]
    assert ours.recv(1) == b""
    ours.close()


def test_before_the_driver_is_up_every_connection_is_refused() -> None:
    with Guest() as guest:
        ours, theirs = socket.socketpair()
        answers: list[bool] = []
        guest.device.connect(theirs, 5005, answers.append)
        assert answers == [False]
        ours.close()


def test_a_half_closed_peer_still_gets_the_answer(guest: Guest, parent: Parent) -> None:
    guest.connected()
    parent.ends[0].shutdown(socket.SHUT_WR)
    [(header, _)] = guest.received()
    assert (header.op, header.flags) == (Op.SHUTDOWN, Shut.SEND)
    guest.send(packet(Op.RW, data=b"late"))
    assert parent.ends[0].recv(10) == b"late"
    guest.send(packet(Op.SHUTDOWN, changed={"flags": 3}))
    assert guest.ops() == [Op.RST]
    assert parent.ends[0].recv(10) == b""


def test_a_peer_that_hangs_up_is_told_as_both_directions(guest: Guest, parent: Parent) -> None:
    guest.connected()
    parent.ends[0].close()
    guest.turn()
    assert [header.flags for header, _ in guest.received()][-1] == Shut.SEND | Shut.RECEIVE
    guest.send(packet(Op.RST))
    guest.send(packet(Op.RW, data=b"x"))
    assert guest.ops() == [Op.RST]  # nobody is there any more


def test_a_guest_gets_no_more_than_it_has_room_for(guest: Guest, parent: Parent) -> None:
    guest.send(packet(Op.REQUEST, changed={"buf_alloc": 10}))
    assert guest.ops() == [Op.RESPONSE]
    parent.ends[0].send(b"0123456789abcdef")
    assert [data for _, data in guest.received()] == [b"0123456789"]
    assert guest.received() == []
    guest.send(packet(Op.CREDIT_UPDATE, changed={"buf_alloc": 10, "fwd_cnt": 8}))
    assert [data for _, data in guest.received()] == [b"abcdef"[:8]]


def test_a_guest_that_sends_past_its_credit_is_reset(guest: Guest, parent: Parent) -> None:
    guest.connected()
    parent.ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(2 * BUFFER_BYTES // 65536 + 8):
        guest.send(packet(Op.RW, data=bytes(65536)))
    assert Op.RST in guest.ops()
    assert not guest.failures


def test_ten_thousand_connections_are_bounded(guest: Guest, parent: Parent) -> None:
    answers = []
    for number in range(10_000):
        guest.send(packet(Op.REQUEST, port=10_000 + number))
        answers += guest.ops()
    assert answers.count(Op.RESPONSE) == MAX_CONNECTIONS
    assert answers.count(Op.RST) == 10_000 - MAX_CONNECTIONS
    assert len(parent.ends) == MAX_CONNECTIONS


def test_a_guest_that_takes_no_packets_is_not_answered_for_ever(parent: Parent) -> None:
    """What it is owed is bounded: its own packets wait as well."""
    with Guest(dial=parent.dial) as guest:
        guest.ask(5, struct.pack("<IIQQQQ", 1, 0, BASE, BYTES, USER, 0), guest.fd)
        for index in (TO_GUEST, FROM_GUEST):
            guest.start_queue(index)
        for number in range(3000):
            guest.send(packet(Op.REQUEST, port=number, to=1))
        used = struct.unpack("<H", os.pread(guest.fd, 2, 0x1000 + 0x402))[0]
        assert used <= 1024
        assert not guest.failures


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({"source_cid": 17}, []),
        ({"source_cid": 2**64 - 1}, []),
        ({"target_cid": 2}, [Op.RST]),
        ({"target_cid": 2**64 - 1}, [Op.RST]),
        ({"kind": 2}, [Op.RST]),
        ({"kind": 0xFFFF}, [Op.RST]),
        ({"op": 0}, [Op.RST]),
        ({"op": 0xFFFF}, [Op.RST]),
        ({"op": Op.RW}, [Op.RST]),
        ({"op": Op.RST}, []),
        ({"op": Op.RESPONSE}, [Op.RST]),
        ({"op": Op.SHUTDOWN, "flags": 2**32 - 1}, [Op.RST]),
        ({"op": Op.CREDIT_REQUEST}, [Op.RST]),
        ({"source_port": 2**32 - 1}, [Op.RESPONSE]),
        ({"target_port": 2**32 - 1}, [Op.RESPONSE]),
        ({"flags": 2**32 - 1}, [Op.RESPONSE]),
        ({"buf_alloc": 0, "fwd_cnt": 2**32 - 1}, [Op.RESPONSE]),
    ],
)
def test_a_lie_in_a_packet_costs_its_connection_alone(
    guest: Guest, changed: dict[str, int], answer: list[Op]
) -> None:
    guest.send(packet(Op.REQUEST, changed=changed))
    assert guest.ops() == answer
    assert not guest.failures
    guest.connected(port=9)


@pytest.mark.parametrize(
    "changed", [{"length": 1}, {"length": 65537}, {"length": 2**32 - 1}], ids=["short", "long", "all"]
)
def test_a_packet_of_another_length_than_it_says_stops_the_device(
    guest: Guest, changed: dict[str, int]
) -> None:
    guest.send(packet(Op.RW, changed=changed))
    assert guest.failures
    assert "vsock packet" in guest.failures[0]


ADDRESS = BASE + 0x20000


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((0, 44, 0, 0), "address"),
        ((BASE - 1, 44, 0, 0), "address"),
        ((BASE + BYTES - 43, 44, 0, 0), "address"),
        ((BASE + BYTES, 44, 0, 0), "address"),
        ((2**64 - 1, 44, 0, 0), "address"),
        ((USER, 44, 0, 0), "address"),
        ((ADDRESS, 0, 0, 0), "at least"),
        ((ADDRESS, 43, 0, 0), "at least"),
        ((ADDRESS, 2**32 - 1, 0, 0), "buffer"),
        ((ADDRESS, 44, INDIRECT, 0), "NEXT and WRITE"),
        ((ADDRESS, 44, 0xFFFF, 0), "NEXT and WRITE"),
        ((ADDRESS, 44, WRITE, 0), "at least"),
        ((ADDRESS, 44, NEXT, 0), "longer one"),
        ((ADDRESS, 44, NEXT, SIZE), "descriptor below"),
        ((ADDRESS, 44, NEXT, 0xFFFF), "descriptor below"),
        ((ADDRESS, 44, NEXT | WRITE, 1), "before what is written"),
    ],
)
def test_a_lie_in_a_descriptor_stops_the_device_with_its_reason(
    guest: Guest, fields: tuple[int, int, int, int], reason: str
) -> None:
    guest.write(0x20000, packet(Op.REQUEST))
    guest.descriptor(FROM_GUEST, 1, (ADDRESS, 44, 0, 0))
    guest.descriptor(FROM_GUEST, 0, fields)
    guest.offer(FROM_GUEST, head=0)
    guest.turn()
    assert len(guest.failures) == 1
    assert guest.failures[0].startswith("the guest's vsock driver broke the rules of virtio")
    assert reason in guest.failures[0]
    assert not guest.device.is_up


@pytest.mark.parametrize("head", [SIZE, 0xFFFF])
def test_a_head_outside_of_the_queue_stops_the_device(guest: Guest, head: int) -> None:
    guest.offer(FROM_GUEST, head=head)
    guest.turn()
    assert "descriptor below" in guest.failures[0]


@pytest.mark.parametrize("index", [SIZE + 1, 0x7FFF])
@pytest.mark.parametrize("queue", [TO_GUEST, FROM_GUEST])
def test_more_buffers_than_the_queue_has_stop_the_device(guest: Guest, queue: int, index: int) -> None:
    start = guest.offered[queue]
    guest.write((0, 0x1000)[queue] + AVAILABLE + 2, struct.pack("<H", (start + index) & 0xFFFF))
    os.eventfd_write(guest.kicks[queue], 1)
    guest.turn()
    assert "buffers in a queue" in guest.failures[0]


@pytest.mark.parametrize(("size", "flags"), [(43, WRITE), (0, WRITE), (4096, 0)])
def test_a_receive_buffer_without_room_stops_the_device(guest: Guest, size: int, flags: int) -> None:
    for number in range(SIZE):
        guest.descriptor(TO_GUEST, number, (ADDRESS, size, flags, 0))
    guest.send(packet(Op.REQUEST))
    assert "bytes or more" in guest.failures[0]


def test_a_used_index_that_the_guest_changes_does_not_matter(guest: Guest, parent: Parent) -> None:
    guest.write(0x1000 + 0x400, b"\xff" * 68)
    guest.send(packet(Op.REQUEST))
    guest.send(packet(Op.RW, data=b"x"))
    assert parent.ends[0].recv(1) == b"x"
    assert not guest.failures


LIES_OF_QEMU: list[Callable[[Guest], object]] = [
    lambda guest: guest.ask(99),
    lambda guest: guest.ask(1, flags=2),
    lambda guest: guest.ask(1, flags=5),
    lambda guest: guest.ask(2, b"1234567"),
    lambda guest: guest.ask(2, struct.pack("<Q", 2**64 - 1)),
    lambda guest: guest.ask(16, struct.pack("<Q", 2)),
    lambda guest: guest.ask(5, b""),
    lambda guest: guest.ask(5, struct.pack("<II", 0, 0)),
    lambda guest: guest.ask(5, struct.pack("<II", 9, 0) + bytes(288)),
    lambda guest: guest.ask(5, struct.pack("<IIQQQQ", 1, 0, BASE, BYTES, USER, 0)),
    lambda guest: guest.ask(5, struct.pack("<IIQQQQ", 1, 0, BASE, BYTES + 1, USER, 0), guest.fd),
    lambda guest: guest.ask(5, struct.pack("<IIQQQQ", 1, 0, BASE, BYTES, USER, 1), guest.fd),
    lambda guest: guest.ask(5, struct.pack("<IIQQQQ", 1, 0, BASE, 0, USER, 0), guest.fd),
    lambda guest: guest.ask(5, struct.pack("<IIQQQQ", 1, 0, 2**64 - 1, BYTES, USER, 0), guest.fd),
    lambda guest: guest.ask(5, struct.pack("<IIQQQQ", 1, 0, BASE, 2**63, USER, 2**63), guest.fd),
    lambda guest: guest.ask(5, struct.pack("<IIQQQQ", 1, 0, BASE, 4096, USER, 0), guest.kicks[0]),
    lambda guest: guest.ask(9, bytes(39)),
    lambda guest: guest.ask(9, struct.pack("<IIQQQQ", 2, 0, 0, 0, 0, 0)),
    lambda guest: guest.ask(8, struct.pack("<II", 2**32 - 1, 8)),
    lambda guest: guest.ask(12, struct.pack("<Q", 0)),
    lambda guest: guest.ask(12, struct.pack("<Q", 2), guest.kicks[0]),
    lambda guest: guest.ask(13, struct.pack("<Q", 0x100), guest.kicks[0]),
    lambda guest: guest.ask(18, struct.pack("<II", 7, 1)),
    lambda guest: guest.ask(24, bytes(11)),
    lambda guest: guest.ask(24, struct.pack("<III", 0, 2**32 - 1, 0)),
    lambda guest: guest.start_queue(0, size=3),
    lambda guest: guest.start_queue(0, size=2048),
    lambda guest: guest.start_queue(0, shift=BYTES),
    lambda guest: guest.start_queue(0, shift=-(1 << 44)),
    lambda guest: guest.qemu.send(struct.pack("<III", 5, 1, 2**32 - 1)),
    lambda guest: guest.qemu.close(),
]


@pytest.mark.parametrize("lie", LIES_OF_QEMU, ids=map(str, range(len(LIES_OF_QEMU))))
def test_a_lie_of_qemu_stops_the_device_and_leaves_no_descriptor(lie: Callable[[Guest], object]) -> None:
    gc.collect()  # a file that an earlier test left would close in between
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Guest() as guest:
        guest.boot()
        lie(guest)
        guest.turn()
        assert len(guest.failures) == 1
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_guests_memory_cannot_be_cut_under_the_device(guest: Guest) -> None:
    """It would end this process with SIGBUS."""
    with pytest.raises(PermissionError):
        os.truncate(guest.fd, 4096)


def test_a_guest_that_boots_again_gets_a_fresh_device(guest: Guest, parent: Parent) -> None:
    guest.connected()
    for index in (TO_GUEST, FROM_GUEST):
        assert len(guest.ask(11, struct.pack("<II", index, 0))) == 20
    assert parent.ends[0].recv(1) == b""
    assert not guest.device.is_up
    guest.offered, guest.seen = [0, 0], [0, 0]
    guest.write(0, bytes(0x2000))
    guest.boot()
    guest.connected()
