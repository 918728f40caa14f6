"""One peer: a non-blocking stream socket that the server's loop reads and any thread writes."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time

from enclave_payload.messages import NO_REQUEST, RefusalCode, refusal_frame
from enclave_payload.session import EnclaveSession, Event

# Larger writes become socket buffers of several pages, which vhost-device-vsock 0.3.0 drops without a word.
SEND_BYTES = 16 * 1024
# All the answers that may be in flight, with room: 32 of 4 KiB each (limits.in_flight_per_connection).
MAX_BACKLOG_BYTES = 256 * 1024
# What a socket holds, as Linux makes them: a small picture comes in one or two pieces. The rest of a large
# one is received in place (wire).
_RECV_BYTES = 256 * 1024
# What one peer may send of a large request before it is the others' turn: 0.4 ms, or 8 ms where the buffer of
# the largest request grows.
_TURN_BYTES = 1024 * 1024


class ConnectionLost(Exception):
    """The peer closed or broke the stream, or did not take what was sent in time."""


class Connection:
    """A connected socket, its session, and what its peer has shown so far. Writers never wait for the peer.

    What the peer does not take at once stays in a backlog, which the loop sends. While that is over its bound
    nothing more is read, so a peer that only asks and never reads is cut off by ``limits.send_s``.
    """

    def __init__(self, sock: socket.socket, epoll: select.epoll, session: EnclaveSession) -> None:
        """Own ``sock``; ``epoll`` reports it to the loop from ``watch`` on."""
        sock.setblocking(False)
        self._sock = sock
        self._epoll = epoll
        self.session = session
        # What the loop knows of the peer. A request that opened is the proof that it is no stranger.
        self.has_challenged = False
        self.is_proven = False
        self.is_refused = False
        # Its last picture took long.
        self.is_slow = False
        self.since = self.quiet_since = time.monotonic()
        self.frame_since: float | None = None
        self.held_bytes = 0
        self._lock = threading.Lock()
        self._events: int | None = None
        self._is_paused = False
        self._is_released = False
        self._backlog = bytearray()
        self._stuck_since = 0.0
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Requests taken and not yet answered."""
        return self._in_flight

    @property
    def is_paused(self) -> bool:
        """True while the enclave makes its evidence: nothing is read, and no deadline of the peer runs."""
        return self._is_paused

    @property
    def is_released(self) -> bool:
        """True once the socket is gone."""
        return self._is_released

    @property
    def stuck_since(self) -> float | None:
        """Since when the peer has not taken all that was sent; None if it has."""
        return self._stuck_since if self._backlog else None

    def fileno(self) -> int:
        """Return the descriptor, by which the loop knows the connection."""
        return self._sock.fileno()

    def add_in_flight(self, step: int) -> None:
        """Count a request in (+1) or out (-1)."""
        with self._lock:
            self._in_flight += step

    def watch(self) -> None:
        """Begin to report the socket to the loop."""
        with self._lock:
            self._epoll.register(self._sock, 0)
            self._events = 0
            self._report()

    def pause(self) -> None:
        """Read nothing more until ``resume``."""
        with self._lock:
            self._is_paused = True
            self._report()

    def resume(self) -> None:
        """Read again; the deadline of the first request runs from now on."""
        with self._lock:
            self.since = time.monotonic()
            self._is_paused = False
            if not self._is_released:
                self._report()

    def read(self) -> list[Event]:
        """Return what the bytes that came ask for. Only for the loop.

        Raises:
            ConnectionLost: the stream is at its end.
            SessionError: the peer broke the protocol.
        """
        if self._is_paused:  # and yet reported: the peer is gone
            raise ConnectionLost
        try:
            if self.session.room() is None:
                data = self._sock.recv(_RECV_BYTES)
                if not data:
                    raise ConnectionLost
                return self.session.receive(data)
            return self._read_large()
        except BlockingIOError:  # no more has come, or readiness was spurious: select(2), "BUGS"
            return []
        except OSError as exc:
            raise ConnectionLost from exc

    def _read_large(self) -> list[Event]:
        """Receive what has come of a large frame, up to its end or a turn's share."""
        events: list[Event] = []
        left = _TURN_BYTES
        while not events and left > 0 and (room := self.session.room()) is not None:
            with room:
                count = self._sock.recv_into(room)
            if not count:
                raise ConnectionLost
            events = self.session.filled(count)
            left -= count
        return events

    def send(self, frame: bytes) -> None:
        """Hand all of ``frame`` to the kernel or to the backlog. Never waits for the peer.

        Raises:
            ConnectionLost: it cannot be sent; the connection is closed, since half a frame may be out.
        """
        with self._lock:
            self.quiet_since = time.monotonic()
            if not self._backlog:
                self._stuck_since = self.quiet_since
            self._backlog += frame
            self._push()
            self._report()

    def send_backlog(self) -> None:
        """Send what the peer takes now. Only for the loop.

        Raises:
            ConnectionLost: the stream broke.
        """
        with self._lock:
            self._push()
            self._report()

    def flush(self, within_s: float) -> None:
        """Send the backlog, waiting for the peer for ``within_s`` seconds at most.

        Raises:
            ConnectionLost: the peer did not take it in time.
        """
        deadline = time.monotonic() + within_s
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        while True:
            with self._lock:
                if self._push():
                    return
            if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                raise ConnectionLost

    def refuse(self, code: RefusalCode, request_id: bytes | None = None) -> None:
        """Send a refusal, if the peer still reads. Not to reach it is no error: a refusal is a courtesy."""
        with contextlib.suppress(ConnectionLost):
            self.send(refusal_frame(code, request_id or NO_REQUEST))

    def close(self) -> None:
        """End the stream in both directions, which the loop notices and releases."""
        with contextlib.suppress(OSError):  # already disconnected
            self._sock.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the descriptor back. Only for the loop; writers that still come find the connection lost."""
        self.close()
        with self._lock:
            self._is_released = True
            self._sock.close()

    def _push(self) -> bool:
        """Send what the peer takes now, under the lock; True if that was all."""
        if self._is_released:
            raise ConnectionLost
        try:
            while self._backlog:
                del self._backlog[: self._sock.send(self._backlog[:SEND_BYTES])]
        except BlockingIOError:
            return False
        except OSError as exc:
            self.close()
            raise ConnectionLost from exc
        return True

    def _report(self) -> None:
        """Tell epoll what the loop must hear of, under the lock."""
        is_reading = not self._is_paused and len(self._backlog) <= MAX_BACKLOG_BYTES
        events = (select.EPOLLIN if is_reading else 0) | (select.EPOLLOUT if self._backlog else 0)
        if self._events is not None and events != self._events:
            self._epoll.modify(self._sock, events)
            self._events = events
