"""One stream socket with deadlines, used by one reader thread and any number of writers."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time

from enclave_payload.messages import NO_REQUEST, Refusal, RefusalCode

# Larger writes become socket buffers of several pages, which vhost-device-vsock 0.3.0 drops silently.
SEND_BYTES = 16 * 1024
_RECV_BYTES = 64 * 1024


class ConnectionLost(Exception):
    """The peer closed, broke the stream, or did not read or write in time."""


class Connection:
    """A connected socket. ``send`` is safe from any thread; ``close`` wakes every waiter."""

    def __init__(self, sock: socket.socket, *, send_s: float) -> None:
        """``send_s`` bounds the seconds that one frame may take to leave."""
        sock.setblocking(True)
        self._sock = sock
        self._send_s = send_s
        self._write_lock = threading.Lock()
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

    def receive(self, timeout_s: float | None, missing: int = 0) -> bytes:
        """Whatever has arrived, at least one byte; b"" at a clean end of stream.

        ``missing`` is how many bytes complete the frame under way, if that is known: then the kernel
        collects them while the workers go on, instead of waking this thread for every piece.

        Raises:
            ConnectionLost: the stream broke.
            TimeoutError: nothing came in ``timeout_s`` seconds (None waits without end).
        """
        self._wait(select.POLLIN, timeout_s)
        try:
            if missing <= _RECV_BYTES or timeout_s is None:
                return self._sock.recv(_RECV_BYTES, socket.MSG_DONTWAIT)
            whole, fraction = divmod(timeout_s, 1)
            limit = struct.pack("ll", int(whole), int(fraction * 1e6) or 1)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            return self._sock.recv(missing, socket.MSG_WAITALL)
        except BlockingIOError as exc:  # readiness may be spurious: select(2), "BUGS"
            raise TimeoutError from exc
        except OSError as exc:
            raise ConnectionLost from exc

    def send(self, frame: bytes, within_s: float | None = None) -> None:
        """All of ``frame`` is handed to the kernel, in ``within_s`` seconds if that is given.

        Raises:
            ConnectionLost: it could not be; the connection is closed, since half a frame may be out.
        """
        within_s = self._send_s if within_s is None else max(within_s, 0)
        deadline = time.monotonic() + within_s
        if not self._write_lock.acquire(timeout=within_s):
            self.close()  # which also wakes the writer that holds the lock
            raise ConnectionLost
        try:
            with memoryview(frame) as view:
                sent = 0
                while sent < len(view):
                    self._wait(select.POLLOUT, deadline - time.monotonic())
                    with contextlib.suppress(BlockingIOError):  # spurious readiness: the deadline still runs
                        sent += self._sock.send(view[sent : sent + SEND_BYTES], socket.MSG_DONTWAIT)
        except (OSError, ConnectionLost) as exc:
            self.close()
            raise ConnectionLost from exc
        finally:
            self._write_lock.release()

    def refuse(
        self, code: RefusalCode, request_id: bytes | None = None, within_s: float | None = None
    ) -> None:
        """Say no, if the peer still listens. Failing to is no error: a refusal is a courtesy."""
        with contextlib.suppress(ConnectionLost):
            self.send(Refusal(code, request_id or NO_REQUEST).to_frame(), within_s)

    def close(self) -> None:
        """End the stream in both directions. The descriptor lives until ``release``."""
        with contextlib.suppress(OSError):  # already disconnected
            self._sock.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the descriptor back. Only for the reader thread, when no writer can come any more."""
        self.close()
        with self._write_lock:
            self._sock.close()

    def _wait(self, event: int, timeout_s: float | None) -> None:
        poll = select.poll()
        try:
            poll.register(self._sock, event)
        except ValueError as exc:  # the descriptor was released
            raise ConnectionLost from exc
        if timeout_s is not None and timeout_s <= 0:
            raise TimeoutError
        if not poll.poll(None if timeout_s is None else timeout_s * 1000):
            raise TimeoutError
