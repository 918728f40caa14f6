"""A Unix socket that leads to a gateway, written without anything of the product: for the real client."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from enclavectl.net.address import UnixAddress

MESSAGE_BYTES = 64 * 1024


class Stream(Protocol):
    """A connection to a gateway."""

    def send(self, data: bytes) -> None: ...

    def receive(self) -> bytes: ...

    def close(self) -> None: ...


class SocketStream:
    """Raw frames over TCP or TLS."""

    def __init__(self, sock: socket.socket | TlsSocket) -> None:
        self.sock = sock

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self) -> bytes:
        return self.sock.recv(1 << 18)

    def close(self) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


class TlsSocket:
    """A TLS client that one thread may read while another writes, which an SSLSocket is not made for."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_hostname="localhost")
        self._state, self._sending = threading.Lock(), threading.Lock()
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            else:
                break
        self._flush()

    def sendall(self, data: bytes) -> None:
        with self._state:
            self._tls.write(data)
        self._flush()

    def recv(self, size: int) -> bytes:
        while True:
            try:
                with self._state:
                    return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except ssl.SSLZeroReturnError:
                return b""

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        self._sock.close()

    def _feed(self) -> None:
        if data := self._sock.recv(1 << 18):
            self._came.write(data)
        else:
            self._came.write_eof()

    def _flush(self) -> None:
        with self._sending:
            with self._state:
                data = self._goes.read()
            self._sock.sendall(data)


class WebSocketStream:
    """Frames in binary messages."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, data: bytes) -> None:
        for at in range(0, len(data), MESSAGE_BYTES):
            self.connection.send(data[at : at + MESSAGE_BYTES])

    def receive(self) -> bytes:
        try:
            message = self.connection.recv()
        except ConnectionClosed:
            return b""
        assert isinstance(message, bytes)
        return message

    def close(self) -> None:
        self.connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How to reach a gateway on this machine."""

    port: int
    websocket: bool = True
    path: str = "/v1"
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> Stream:
        """Connect.

        Raises:
            InvalidHandshake: the gateway refused the upgrade.
        """
        sock = socket.create_connection(("127.0.0.1", self.port))
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.websocket:
                return self._open_websocket(sock)
            return SocketStream(sock if self.tls is None else TlsSocket(sock, self.tls))
        except BaseException:
            sock.close()
            raise

    def _open_websocket(self, sock: socket.socket) -> WebSocketStream:
        opening = connect(
            f"{'ws' if self.tls is None else 'wss'}://localhost:{self.port}{self.path}",
            sock=sock,
            ssl=self.tls,
            compression=None,
            subprotocols=[Subprotocol("enclavectl.v1")],
            additional_headers=dict(self.headers),
        )
        return WebSocketStream(opening.__enter__())


def _pump_up(local: socket.socket, stream: Stream) -> None:
    with suppress(OSError, ConnectionClosed):
        while data := local.recv(1 << 18):
            stream.send(data)
    stream.close()


def _pump_down(local: socket.socket, stream: Stream) -> None:
    with suppress(OSError):
        while data := stream.receive():
            local.sendall(data)
    with suppress(OSError):
        local.shutdown(socket.SHUT_RDWR)
    local.close()


@contextmanager
def tunnel(way: Way, path: Path) -> Iterator[UnixAddress]:
    """Lead each connection to ``path`` to the gateway."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(256)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    local, _ = listening.accept()
                    threading.Thread(target=_serve_one, args=(local, way), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield UnixAddress(path)
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _serve_one(local: socket.socket, way: Way) -> None:
    try:
        stream = way.open()
    except (OSError, InvalidHandshake):  # the client sees that nobody is there
        local.close()
        return
    threading.Thread(target=_pump_down, args=(local, stream), daemon=True).start()
    _pump_up(local, stream)
