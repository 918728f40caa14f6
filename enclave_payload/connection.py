"""One stream socket with deadlines, used by one reader thread and any number of writers."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from enclave_payload.messages import NO_REQUEST, RefusalCode, refusal_frame

# Larger writes become socket buffers of several pages, which vhost-device-vsock 0.3.0 drops without a word.
SEND_BYTES = 16 * 1024
# All the answers that may be in flight, with room: 32 of 4 KiB each (limits.in_flight_per_connection).
MAX_BACKLOG_BYTES = 256 * 1024
# Several small requests at once; large ones are received in place (wire).
_RECV_BYTES = 64 * 1024

T = TypeVar("T")


class ConnectionLost(Exception):
    """The peer closed, broke the stream, or did not read or write in time."""


class Connection:
    """A connected socket whose writers never wait for the peer. ``close`` wakes every waiter.

    What the peer does not take at once stays in a backlog, which the reader thread sends. While that is over
    its bound nothing more is read, so a peer that only asks and never reads is cut off by ``send_s``.
    """

    def __init__(self, sock: socket.socket, *, send_s: float) -> None:
        """Own ``sock``; ``send_s`` bounds the seconds that a backlog may stand.

        Raises:
            OSError: no descriptor is left; the socket is closed.
        """
        try:
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        self._sock = sock
        self._send_s = send_s
        self._lock = threading.Lock()
        self._backlog = bytearray()
        self._stuck_since = 0.0
        self._is_released = False
        self._in_flight = 0
        self._in_flight_lock = threading.Lock()

    @property
    def in_flight(self) -> int:
        """Requests taken and not yet answered."""
        return self._in_flight

    def add_in_flight(self, step: int) -> None:
        """Count a request in (+1) or out (-1)."""
        with self._in_flight_lock:
            self._in_flight += step

    def receive(self, timeout_s: float | None) -> bytes:
        """Return what has arrived, or b"" at a clean end of stream. Sends the backlog meanwhile.

        Raises:
            ConnectionLost: the stream broke, or the peer did not take the backlog in time.
            TimeoutError: nothing came in ``timeout_s`` seconds (None waits without end).
        """
        return self._receive(lambda: self._sock.recv(_RECV_BYTES), timeout_s)

    def receive_into(self, room: memoryview, timeout_s: float | None) -> int:
        """Receive into ``room`` and return how many bytes came; as ``receive``, with 0 for the end of stream.

        Raises:
            ConnectionLost, TimeoutError: as ``receive``.
        """
        return self._receive(lambda: self._sock.recv_into(room), timeout_s)

    def _receive(self, read: Callable[[], T], timeout_s: float | None) -> T:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._lock:
                is_sent = self._push()
                is_full = len(self._backlog) > MAX_BACKLOG_BYTES
                stuck_until = self._stuck_since + self._send_s
            if is_full:
                self._wait_for_peer(select.POLLOUT, stuck_until)
                continue
            if is_sent:
                self._wait(select.POLLIN, deadline)
            else:
                # Reading goes on, since a peer may write all its requests before it reads an answer.
                self._wait_for_peer(select.POLLIN | select.POLLOUT, stuck_until)
            try:
                return read()
            except BlockingIOError:  # writable, woken to send, or readiness was spurious: select(2), "BUGS"
                continue
            except OSError as exc:
                raise ConnectionLost from exc

    def send(self, frame: bytes) -> None:
        """Hand all of ``frame`` to the kernel or to the backlog. Never waits for the peer.

        Raises:
            ConnectionLost: it cannot be sent; the connection is closed, since half a frame may be out.
        """
        with self._lock:
            if not self._backlog:
                self._stuck_since = time.monotonic()
            self._backlog += frame
            if not self._push():
                os.eventfd_write(self._wake, 1)

    def flush(self, within_s: float | None = None) -> None:
        """Send the backlog; waits for ``within_s`` and for what is left of ``send_s`` at most.

        Raises:
            ConnectionLost: the peer did not take it in time; the connection is closed.
        """
        limit = None if within_s is None else time.monotonic() + within_s
        while True:
            with self._lock:
                if self._push():
                    return
                deadline = self._stuck_since + self._send_s
            self._wait_for_peer(select.POLLOUT, deadline if limit is None else min(deadline, limit))

    def refuse(self, code: RefusalCode, request_id: bytes | None = None) -> None:
        """Send a refusal, if the peer still reads. Not to reach it is no error: a refusal is a courtesy."""
        with contextlib.suppress(ConnectionLost):
            self.send(refusal_frame(code, request_id or NO_REQUEST))

    def close(self) -> None:
        """End the stream in both directions. The descriptor lives until ``release``."""
        with contextlib.suppress(OSError):  # already disconnected
            self._sock.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the descriptors back. Only for the reader thread; writers that still come find it lost."""
        self.close()
        with self._lock:
            self._is_released = True
            self._sock.close()
            os.close(self._wake)

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

    def _wait_for_peer(self, event: int, deadline: float) -> None:
        try:
            self._wait(event, deadline)
        except TimeoutError as exc:
            self.close()
            raise ConnectionLost from exc

    def _wait(self, event: int, deadline: float | None) -> None:
        """Wait for ``event``, or for a writer that needs the reader."""
        poll = select.poll()
        with self._lock:
            if self._is_released:
                raise ConnectionLost
            poll.register(self._sock, event)
            if event & select.POLLIN:
                poll.register(self._wake, select.POLLIN)
        left_s = None if deadline is None else deadline - time.monotonic()
        if left_s is not None and left_s <= 0:
            raise TimeoutError
        ready = poll.poll(None if left_s is None else left_s * 1000)
        if not ready:
            raise TimeoutError
        if any(fd == self._wake for fd, _ in ready):
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
