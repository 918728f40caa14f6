"""The host's side of hybrid vsock: ``CONNECT <port>``, a line feed, then ``OK <port>`` or an end.

https://github.com/firecracker-microvm/firecracker/blob/main/docs/vsock.md
"""

from __future__ import annotations

import re
import select
import socket

from enclavectl.backends.qemu.vsock.device import VsockDevice
from enclavectl.backends.qemu.vsock.reactor import Reactor

# "CONNECT " and a port of ten digits, with room.
_MAX_LINE = 32
_LINE = re.compile(rb"CONNECT ([0-9]{1,10})\n")
# Whoever connects on this host sends its line at once.
_LINE_S = 10.0
# As many as may wait to be accepted anyway.
_MAX_WAITING = 64


class HybridListener:
    """Accepts connections on a Unix socket and hands them to the device, once they have named a port."""

    def __init__(self, reactor: Reactor, listener: socket.socket, device: VsockDevice) -> None:
        """Accept on ``listener``, which stays the caller's."""
        self._reactor = reactor
        self._listener = listener
        self._device = device
        self._waiting = 0
        listener.setblocking(False)
        reactor.watch(listener.fileno(), select.EPOLLIN, lambda _: self._accept())

    def close(self) -> None:
        """Accept no more."""
        self._reactor.forget(self._listener.fileno())

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it has gone, or there are too many; the next turn tries again
        if self._waiting >= _MAX_WAITING:
            sock.close()
            return
        self._waiting += 1
        sock.setblocking(False)
        timer = self._reactor.later(_LINE_S, lambda: self._finish(sock))

        line = bytearray()

        def read(_: int) -> None:
            port = self._read_line(sock, line)
            if port is None:
                return
            timer.cancel()
            self._reactor.forget(sock.fileno())
            self._waiting -= 1
            if port < 0:
                sock.close()
            else:
                self._device.connect(sock, port, lambda accepted: _answer(sock, port, accepted=accepted))

        self._reactor.watch(sock.fileno(), select.EPOLLIN, read)

    def _read_line(self, sock: socket.socket, line: bytearray) -> int | None:
        """Return the port; None while the line is not whole, -1 for what is no such line."""
        try:
            # A byte at a time: what follows the line is the guest's.
            while not line.endswith(b"\n"):
                byte = sock.recv(1)
                if not byte or len(line) >= _MAX_LINE:
                    return -1
                line += byte
        except BlockingIOError:
            return None
        except OSError:
            return -1
        match = _LINE.fullmatch(line)
        return int(match[1]) if match is not None and int(match[1]) < 2**32 else -1

    def _finish(self, sock: socket.socket) -> None:
        self._waiting -= 1
        self._reactor.forget(sock.fileno())
        sock.close()


def _answer(sock: socket.socket, port: int, *, accepted: bool) -> None:
    if accepted:
        try:
            sock.send(b"OK %d\n" % port)  # a fresh socket has room for it
        except OSError:
            return  # whoever asked has gone, which the connection finds out
