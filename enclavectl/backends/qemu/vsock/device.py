"""The device: QEMU's requests on a socket, two queues in the guest's memory, and its connections."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Sequence
from struct import Struct

from enclavectl.backends.qemu.vsock import vhost_user
from enclavectl.backends.qemu.vsock.connections import Connections, Dial
from enclavectl.backends.qemu.vsock.errors import VirtioError
from enclavectl.backends.qemu.vsock.guest_memory import GuestMemory
from enclavectl.backends.qemu.vsock.packet import HEADER_BYTES, parse_packet
from enclavectl.backends.qemu.vsock.reactor import Reactor
from enclavectl.backends.qemu.vsock.vhost_user import Request
from enclavectl.backends.qemu.vsock.virtqueue import Chain, Layout, Virtqueue

# The guest's receive queue, and its send queue. The third, of events, is QEMU's own.
_TO_GUEST, _FROM_GUEST = 0, 1
_QUEUES = 2
# Packets of one turn, so that a guest that never stops does not keep others waiting.
_TURN = 64
# Linux's receive buffers hold a page. One that has no room for bytes would never let a connection go on.
_LEAST_BUFFER = 64
_CONFIG = Struct("<Q")
_FEATURES = vhost_user.F_VERSION_1 | vhost_user.F_PROTOCOL_FEATURES
_PROTOCOL = vhost_user.PROTOCOL_MQ | vhost_user.PROTOCOL_CONFIG
_NUMBERS = {
    Request.GET_FEATURES: _FEATURES,
    Request.GET_PROTOCOL_FEATURES: _PROTOCOL,
    Request.GET_QUEUE_NUM: _QUEUES,
}
_INDEX, _NO_FD = 0xFF, 0x100


class _Ring:
    """What QEMU has told of one queue; ``queue`` is there while it can be used."""

    def __init__(self) -> None:
        self.layout = Layout(size=0, descriptors=0, available=0, used=0, base=0)
        self.queue: Virtqueue | None = None
        self.kick: int | None = None
        self.call: int | None = None
        self.is_enabled = False


class VsockDevice:
    """A vsock device for the guest of this ``cid``. ``failed`` is called at most once, with the reason."""

    def __init__(self, reactor: Reactor, *, cid: int, dial: Dial, failed: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._cid = cid
        self._failed = failed
        self._frontend: socket.socket | None = None
        self._buffer = b""
        self._fds: list[int] = []
        self._memory: GuestMemory | None = None
        self._rings = [_Ring() for _ in range(_QUEUES)]
        self._is_woken = False
        self._is_dead = False
        self._connections = Connections(reactor, cid=cid, dial=dial, wake=self._wake)

    @property
    def is_up(self) -> bool:
        """True while the guest's driver takes packets."""
        return not self._is_dead and self._rings[_TO_GUEST].queue is not None

    def attach(self, frontend: socket.socket) -> None:
        """Serve QEMU on this socket, which the device owns from now on."""
        frontend.setblocking(False)
        self._frontend = frontend
        self._reactor.watch(frontend.fileno(), select.EPOLLIN, lambda _: self._on_frontend(frontend))

    def connect(self, sock: socket.socket, port: int, answered: Callable[[bool], None]) -> None:
        """Connect a socket, which does not block, to a guest's port; refused while no driver is there."""
        if not self.is_up:
            sock.close()
            answered(False)
            return
        self._connections.connect(sock, port, answered)

    def close(self) -> None:
        """Close all that the device has."""
        self._is_dead = True
        self._connections.close()
        for ring in self._rings:
            self._stop(ring)
            if ring.call is not None:
                os.close(ring.call)
                ring.call = None
        self._memory = None
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        if self._frontend is not None:
            self._reactor.forget(self._frontend.fileno())
            self._frontend.close()
            self._frontend = None

    def _on_frontend(self, frontend: socket.socket) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(frontend, 4096, vhost_user.MAX_FDS)
        except BlockingIOError:
            return
        except OSError as exc:
            self._fail(f"QEMU's socket failed ({exc.strerror})")
            return
        self._fds += fds
        self._buffer += data
        try:
            if data and not flags & socket.MSG_CTRUNC and len(self._fds) <= vhost_user.MAX_FDS:
                self._take_requests(frontend)
            else:
                self._fail("QEMU closed its socket, or sent too many descriptors")
        except (VirtioError, OSError) as exc:
            self._fail(str(exc))

    def _take_requests(self, frontend: socket.socket) -> None:
        size = vhost_user.HEADER.size
        while len(self._buffer) >= size:
            request, length = vhost_user.parse_header(self._buffer[:size])
            if len(self._buffer) < size + length:
                return
            body, self._buffer = self._buffer[size : size + length], self._buffer[size + length :]
            answer = self._answer(request, body)
            if answer is not None:
                frontend.sendall(answer)  # of 300 bytes at most, to a QEMU that waits for it

    def _answer(self, request: Request, body: bytes) -> bytes | None:
        """Do what QEMU asks for; return the bytes of the answer, if there is one."""
        if request in _NUMBERS:
            return vhost_user.reply_u64(request, _NUMBERS[request])
        if request is Request.GET_CONFIG:
            return vhost_user.reply(request, vhost_user.answer_config(body, _CONFIG.pack(self._cid)))
        if request is Request.GET_VRING_BASE:
            return self._get_base(body)
        match request:
            case Request.SET_FEATURES | Request.SET_PROTOCOL_FEATURES:
                offered = _FEATURES if request is Request.SET_FEATURES else _PROTOCOL
                if (accepted := vhost_user.parse_u64(body)) & ~offered:
                    raise VirtioError(f"expected features of {offered:#x}, found {accepted:#x}")
            case Request.SET_MEM_TABLE:
                self._set_memory(body)
            case Request.SET_VRING_KICK | Request.SET_VRING_CALL | Request.SET_VRING_ERR:
                self._set_event(request, body)
            case Request.SET_VRING_NUM | Request.SET_VRING_BASE | Request.SET_VRING_ADDR:
                self._set_layout(request, body)
            case Request.SET_VRING_ENABLE:
                index, state = vhost_user.parse_state(body)
                self._ring(index).is_enabled = bool(state)
                self._start(self._ring(index))
        return None

    def _get_base(self, body: bytes) -> bytes:
        """Stop a queue, as QEMU does when the guest's driver has gone, and say how far it was read."""
        index, _ = vhost_user.parse_state(body)
        ring = self._ring(index)
        self._stop(ring)
        self._connections.close()
        return vhost_user.reply(Request.GET_VRING_BASE, vhost_user.pack_state(index, ring.layout.base))

    def _set_memory(self, body: bytes) -> None:
        fds = self._taken_fds()
        try:
            self._memory = GuestMemory.map(vhost_user.parse_regions(body), fds)
        finally:
            for fd in fds:
                os.close(fd)
        # The queues' views are of the old mappings.
        for ring in self._rings:
            if ring.queue is not None:
                base = ring.queue.taken
                ring.layout = ring.layout._replace(base=base)
                ring.queue = None
                self._start(ring)

    def _set_layout(self, request: Request, body: bytes) -> None:
        if request is Request.SET_VRING_ADDR:
            found = vhost_user.parse_addresses(body)
            ring = self._ring(found.ring)
            ring.layout = ring.layout._replace(
                descriptors=found.descriptors, available=found.available, used=found.used
            )
            return
        index, number = vhost_user.parse_state(body)
        ring = self._ring(index)
        if request is Request.SET_VRING_NUM:
            ring.layout = ring.layout._replace(size=number)
        else:
            ring.layout = ring.layout._replace(base=number)

    def _set_event(self, request: Request, body: bytes) -> None:
        value = vhost_user.parse_u64(body)
        ring = self._ring(value & _INDEX)
        fds = self._taken_fds()
        wanted = 0 if value & _NO_FD else 1
        if len(fds) != wanted:
            for fd in fds:
                os.close(fd)
            raise VirtioError(f"expected {wanted} descriptors with {request.name}, found {len(fds)}")
        event = fds[0] if fds else None
        if request is Request.SET_VRING_ERR:
            if event is not None:
                os.close(event)
            return
        if event is not None:
            os.set_blocking(event, False)
        if request is Request.SET_VRING_CALL:
            if ring.call is not None:
                os.close(ring.call)
            ring.call = event
            return
        self._stop(ring)
        ring.kick = event
        self._start(ring)

    def _start(self, ring: _Ring) -> None:
        """Begin to use a queue, once QEMU has told all of it."""
        if ring.queue is not None or ring.kick is None or not ring.is_enabled or self._memory is None:
            return
        ring.queue = Virtqueue(self._memory, ring.layout)
        self._reactor.watch(ring.kick, select.EPOLLIN, lambda _: self._on_kick(ring))
        self._wake()

    def _stop(self, ring: _Ring) -> None:
        if ring.queue is not None:
            ring.layout = ring.layout._replace(base=ring.queue.taken)
            ring.queue = None
        if ring.kick is not None:
            self._reactor.forget(ring.kick)
            os.close(ring.kick)
            ring.kick = None

    def _on_kick(self, ring: _Ring) -> None:
        if ring.kick is not None:
            try:
                os.read(ring.kick, 8)
            except BlockingIOError:
                return
            except OSError as exc:
                self._fail(f"a queue's event failed ({exc.strerror})")
                return
        self._work()

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self._reactor.soon(self._work)

    def _work(self) -> None:
        """Move packets both ways, for one turn."""
        self._is_woken = False
        if self._is_dead:
            return
        try:
            taken = self._take_packets()
            given = self._give_packets()
            self._signal(_FROM_GUEST, taken)
            self._signal(_TO_GUEST, given)
        except VirtioError as exc:
            self._fail(f"the guest's vsock driver broke the rules of virtio: {exc}")
            return
        except OSError as exc:
            self._fail(f"a queue's event failed ({exc.strerror})")
            return
        if _TURN in (taken, given):
            self._wake()  # there may be more

    def _take_packets(self) -> int:
        queue = self._rings[_FROM_GUEST].queue
        for count in range(_TURN):
            if queue is None or not self._connections.has_room or (chain := queue.peek()) is None:
                return count
            packet = parse_packet(chain.readable)
            queue.put(chain, 0)
            self._connections.receive(packet)
        return _TURN

    def _give_packets(self) -> int:
        queue = self._rings[_TO_GUEST].queue
        for count in range(_TURN):
            if queue is None or (chain := queue.peek()) is None:
                return count
            capacity = sum(map(len, chain.writable))
            if capacity < _LEAST_BUFFER:
                raise VirtioError(f"expected buffers of {_LEAST_BUFFER} bytes or more, found {capacity}")
            found = self._connections.next_packet(capacity)
            if found is None:
                return count
            header, data = found
            _write(chain, header.pack() + data)
            queue.put(chain, HEADER_BYTES + len(data))
        return _TURN

    def _signal(self, index: int, count: int) -> None:
        call = self._rings[index].call
        if count and call is not None:
            try:
                os.eventfd_write(call, 1)
            except BlockingIOError:
                return  # it is signaled already, as often as can be counted

    def _fail(self, reason: str) -> None:
        if not self._is_dead:
            self.close()
            self._failed(reason)

    def _ring(self, index: int) -> _Ring:
        if index >= _QUEUES:
            raise VirtioError(f"expected a queue below {_QUEUES}, found {index}")
        return self._rings[index]

    def _taken_fds(self) -> Sequence[int]:
        fds, self._fds = self._fds, []
        return fds


def _write(chain: Chain, data: bytes) -> None:
    start = 0
    for piece in chain.writable:
        part = data[start : start + len(piece)]
        piece[: len(part)] = part
        start += len(part)
        if start >= len(data):
            return
