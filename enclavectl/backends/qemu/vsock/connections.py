"""All connections of one guest: its packets in, packets for it out. Nothing here knows of virtqueues."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable

from enclavectl.backends.qemu.vsock.connection import Connection, State
from enclavectl.backends.qemu.vsock.packet import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    PARENT_CID,
    STREAM,
    Header,
    Op,
    Packet,
    Shut,
)
from enclavectl.backends.qemu.vsock.reactor import Reactor

# A payload serves fewer. Each holds a descriptor here, of which a process has 1024, and at most 256 KiB.
MAX_CONNECTIONS = 256
# Packets without bytes for a guest that takes none; then its own wait too (virtio 1.3, 5.10.6.1.2).
_MAX_WAITING = 1024
# Linux's for vsock is 2 s; a guest that boots under emulation on a busy host may take longer to answer.
_ANSWER_S = 10.0
# As Linux waits for the other side of a connection to end (VSOCK_CLOSE_TIMEOUT).
_CLOSE_S = 8.0
_FIRST_PORT, _LAST_PORT = 1024, 2**32 - 2

Dial = Callable[[int], socket.socket]
"""Return a connected socket, which does not block, for a port of the parent; OSError if nobody listens."""


class Connections:
    """The connections by their ports."""

    def __init__(self, reactor: Reactor, *, cid: int, dial: Dial, wake: Callable[[], None]) -> None:
        """``wake`` is called when ``next_packet`` may have one again."""
        self._reactor = reactor
        self._cid = cid
        self._dial = dial
        self._wake = wake
        self._open: dict[tuple[int, int], Connection] = {}
        self._asked: dict[tuple[int, int], Callable[[bool], None]] = {}
        self._controls: deque[Header] = deque()
        self._readable: deque[Connection] = deque()
        self._next_port = _FIRST_PORT

    def __len__(self) -> int:
        return len(self._open)

    @property
    def has_room(self) -> bool:
        """True if the guest's packets may be read: each may need an answer."""
        return len(self._controls) < _MAX_WAITING

    def connect(self, sock: socket.socket, port: int, answered: Callable[[bool], None]) -> None:
        """Ask the guest to connect ``sock``, which does not block, to its port; ``answered`` gets its answer.

        The socket is ours from now on: it is closed before a refusal is told.
        """
        if len(self._open) >= MAX_CONNECTIONS:
            sock.close()
            answered(False)
            return
        while (port, self._next_port) in self._open:
            self._next_port = self._after(self._next_port)
        connection = Connection(
            sock, cid=self._cid, guest_port=port, host_port=self._next_port, state=State.REQUESTED
        )
        self._next_port = self._after(self._next_port)
        self._open[connection.key] = connection
        self._asked[connection.key] = answered
        self._say(connection.header(Op.REQUEST))
        self._reactor.later(_ANSWER_S, lambda: self._give_up(connection, State.REQUESTED))

    def receive(self, packet: Packet) -> None:
        """Handle a packet of the guest's; it may be any bytes."""
        header = packet.header
        if header.source_cid != self._cid:
            return  # virtio 1.3, 5.10.6.2: drop it
        connection = self._open.get((header.source_port, header.target_port))
        if header.target_cid != PARENT_CID or header.kind != STREAM:
            self._refuse(header)
        elif connection is None:
            self._receive_new(header)
        elif header.op == Op.RST:
            self._drop(connection)
        else:
            connection.learn(header)
            self._receive_known(connection, packet)
            if connection.is_stalled and connection.credit:
                connection.is_stalled = False
                self._readable.append(connection)
                self._wake()

    def next_packet(self, capacity: int) -> tuple[Header, bytes] | None:
        """Return the guest's next packet, of ``capacity`` bytes at most with its header; None: none."""
        while True:
            if self._controls:
                return self._controls.popleft(), b""
            if not self._readable:
                return None
            connection = self._readable.popleft()
            if connection.state is not State.OPEN or self._open.get(connection.key) is not connection:
                continue
            room = min(capacity - HEADER_BYTES, MAX_PAYLOAD, connection.credit)
            if not room:
                connection.is_stalled = True  # the guest's next packet tells its credit
                continue
            data = self._read(connection, room)
            if data:
                self._readable.append(connection)  # behind the others
                return connection.header(Op.RW, length=len(data)), data

    def close(self) -> None:
        """Close every connection; the guest is told nothing, since it has gone."""
        for connection in list(self._open.values()):
            self._drop(connection)
        self._controls.clear()
        self._readable.clear()

    def _receive_new(self, header: Header) -> None:
        if header.op != Op.REQUEST or len(self._open) >= MAX_CONNECTIONS:
            self._refuse(header)
            return
        try:
            sock = self._dial(header.target_port)
        except OSError:
            self._refuse(header)
            return
        connection = Connection(
            sock,
            cid=self._cid,
            guest_port=header.source_port,
            host_port=header.target_port,
            state=State.OPEN,
        )
        connection.learn(header)
        self._open[connection.key] = connection
        self._say(connection.header(Op.RESPONSE))
        self._want_input(connection)

    def _receive_known(self, connection: Connection, packet: Packet) -> None:
        op = packet.header.op
        if connection.state is State.REQUESTED:
            if op == Op.RESPONSE:
                connection.state = State.OPEN
                self._asked.pop(connection.key)(True)
                self._want_input(connection)
            else:
                self._reset(connection)
        elif op == Op.RW:
            self._take(connection, packet.payload)
        elif op == Op.SHUTDOWN:
            connection.guest_done |= Shut(packet.header.flags & 3)
            self._settle(connection)
        elif op == Op.CREDIT_REQUEST:
            self._say(connection.header(Op.CREDIT_UPDATE))
        elif op != Op.CREDIT_UPDATE:
            self._reset(connection)  # a second request, or what is no operation

    def _take(self, connection: Connection, data: bytes) -> None:
        if connection.state is State.CLOSING:
            connection.count_taken(len(data))  # nobody is there to read it
        elif connection.guest_done & Shut.SEND or not connection.has_room(len(data)):
            self._reset(connection)
        else:
            connection.pending += data
            self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        """Hand on what the guest sent, as far as the host takes it."""
        try:
            while connection.pending:
                count = connection.sock.send(connection.pending)
                del connection.pending[:count]
                connection.count_taken(count)
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up(connection)
            return
        if connection.must_tell():
            self._say(connection.header(Op.CREDIT_UPDATE))
        self._settle(connection)

    def _read(self, connection: Connection, room: int) -> bytes:
        try:
            data = connection.sock.recv(room)
        except BlockingIOError:
            self._want_input(connection)
            return b""
        except OSError:
            self._hang_up(connection)
            return b""
        if not data:
            connection.is_at_end = True
            self._shut(connection, Shut.SEND)
            self._watch(connection)  # until it hangs up as well
        return data

    def _settle(self, connection: Connection) -> None:
        """Do what the guest's SHUTDOWN asks for, once the host has what came before."""
        done = connection.guest_done
        if connection.pending and connection.state is State.OPEN:
            self._watch(connection)
        elif done == Shut.RECEIVE | Shut.SEND:
            self._reset(connection)
        else:
            if connection.state is State.OPEN:
                for flag, how in ((Shut.SEND, socket.SHUT_WR), (Shut.RECEIVE, socket.SHUT_RD)):
                    if done & flag:
                        _shutdown(connection.sock, how)
            self._watch(connection)

    def _on_events(self, connection: Connection, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush(connection)
        if self._open.get(connection.key) is not connection or connection.state is not State.OPEN:
            return
        if connection.wants_input and events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            connection.wants_input = False
            self._watch(connection)
            self._readable.append(connection)
            self._wake()
        elif connection.is_at_end and events & (select.EPOLLHUP | select.EPOLLERR):
            self._hang_up(connection)

    def _want_input(self, connection: Connection) -> None:
        if not connection.guest_done & Shut.RECEIVE:
            connection.wants_input = True
        self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        if connection.state is not State.OPEN:
            return
        events = select.EPOLLIN if connection.wants_input else 0
        events |= select.EPOLLOUT if connection.pending else 0
        # An end is always reported: without a reason to look, it would be reported without a pause.
        if events or connection.is_at_end:
            self._reactor.watch(
                connection.sock.fileno(), events, lambda found: self._on_events(connection, found)
            )
        else:
            self._reactor.forget(connection.sock.fileno())

    def _hang_up(self, connection: Connection) -> None:
        """Close the host's socket, whose other end has gone, and tell the guest."""
        if connection.guest_done == Shut.RECEIVE | Shut.SEND:
            self._reset(connection)
            return
        self._close_socket(connection)
        connection.state = State.CLOSING
        connection.pending.clear()
        self._shut(connection, Shut.RECEIVE | Shut.SEND)
        self._reactor.later(_CLOSE_S, lambda: self._give_up(connection, State.CLOSING))

    def _shut(self, connection: Connection, done: Shut) -> None:
        if connection.host_done | done != connection.host_done:
            connection.host_done |= done
            self._say(connection.header(Op.SHUTDOWN, flags=connection.host_done))

    def _give_up(self, connection: Connection, state: State) -> None:
        if self._open.get(connection.key) is connection and connection.state is state:
            self._reset(connection)

    def _reset(self, connection: Connection) -> None:
        self._say(connection.header(Op.RST))
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self._close_socket(connection)
        connection.state = State.CLOSING
        del self._open[connection.key]
        answered = self._asked.pop(connection.key, None)
        if answered is not None:
            answered(False)

    def _close_socket(self, connection: Connection) -> None:
        if connection.sock.fileno() >= 0:
            self._reactor.forget(connection.sock.fileno())
            connection.sock.close()

    def _refuse(self, header: Header) -> None:
        if header.op != Op.RST:  # two that answer resets with resets would never end
            self._say(
                Header(
                    source_cid=header.target_cid,
                    target_cid=header.source_cid,
                    source_port=header.target_port,
                    target_port=header.source_port,
                    length=0,
                    kind=header.kind,
                    op=Op.RST,
                    flags=0,
                    buf_alloc=0,
                    fwd_cnt=0,
                )
            )

    def _say(self, header: Header) -> None:
        self._controls.append(header)
        self._wake()

    def _after(self, port: int) -> int:
        return port + 1 if port < _LAST_PORT else _FIRST_PORT


def _shutdown(sock: socket.socket, how: int) -> None:
    try:
        sock.shutdown(how)
    except OSError:
        return  # its other end has gone already, which the next read or write finds
