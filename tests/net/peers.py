"""Real servers on a loopback port: relays to an enclave, an HTTP proxy, and servers of something else."""

from __future__ import annotations

import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from enclavectl.net.address import UnixAddress

Script = Callable[[socket.socket], None]
Judge = Callable[[ServerConnection, Request], Response | None]
# No test waits for this; it ends one that would hang.
_PATIENCE_S = 30


@dataclass(slots=True)
class Peer:
    """A server; ``connections`` counts those that it took, ``seen`` has what an HTTP server was asked."""

    port: int
    connections: int = 0
    seen: list[str] = field(default_factory=list)


@contextmanager
def start_peer(script: Script, context: ssl.SSLContext | None = None) -> Iterator[Peer]:
    """Each connection gets ``script``, after TLS where there is a context."""
    listener = socket.create_server(("127.0.0.1", 0))
    peer = Peer(listener.getsockname()[1])
    threads: list[threading.Thread] = []
    open_sockets: list[socket.socket] = []

    def converse(plain: socket.socket) -> None:
        with suppress(OSError), plain:
            if context is None:
                script(plain)
                return
            with context.wrap_socket(plain, server_side=True) as secure:
                script(secure)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                sock.settimeout(_PATIENCE_S)
                peer.connections += 1
                open_sockets.append(sock)
                threads.append(threading.Thread(target=converse, args=(sock,)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield peer
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        listener.close()
        for sock in open_sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def relay_to(target: UnixAddress | int) -> Script:
    """Copy bytes both ways between a client and an enclave's socket, or a port of this machine."""

    def script(sock: socket.socket) -> None:
        with _connect(target) as inner:
            back = threading.Thread(target=_copy, args=(inner, sock))
            back.start()
            _copy(sock, inner)
            back.join()

    return script


def _connect(target: UnixAddress | int) -> socket.socket:
    if isinstance(target, int):
        return socket.create_connection(("127.0.0.1", target))
    inner = socket.socket(socket.AF_UNIX)
    inner.connect(str(target.path))
    return inner


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for sock in (source, sink):
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def start_websocket_relay(
    target: UnixAddress,
    context: ssl.SSLContext | None = None,
    *,
    judge: Judge | None = None,
    subprotocol: str = "enclavectl.v1",
    on_open: Callable[[ServerConnection], bool] = lambda _: True,
    cuts: Sequence[int] = (),
) -> Iterator[Peer]:
    """A relay that speaks WebSocket.

    ``judge`` may refuse the upgrade, and ``on_open`` ends the connection if it is False. The first
    connections are cut after as many bytes of the client as ``cuts`` says.
    """
    peer = Peer(0)
    limits = iter(cuts)

    def note(connection: ServerConnection, request: Request) -> Response | None:
        peer.connections += 1
        peer.seen.append(f"{request.path} {request.headers.get('Authorization', '-')}")
        return None if judge is None else judge(connection, request)

    def handle(connection: ServerConnection) -> None:
        if not on_open(connection):
            return
        left = next(limits, sys.maxsize)
        with _connect(target) as inner:
            back = threading.Thread(target=_send_messages, args=(inner, connection))
            back.start()
            with suppress(OSError, ConnectionClosed):
                for message in connection:
                    assert isinstance(message, bytes)
                    left -= len(message)
                    if left < 0:
                        connection.socket.shutdown(socket.SHUT_RDWR)
                        break
                    inner.sendall(message)
            with suppress(OSError):
                inner.shutdown(socket.SHUT_RDWR)
            back.join()

    listener = socket.create_server(("127.0.0.1", 0))
    peer.port = listener.getsockname()[1]
    server = serve(
        handle,
        sock=listener,
        ssl=context,
        subprotocols=[Subprotocol(subprotocol)],
        compression=None,
        max_size=64 * 1024,
        process_request=note,
    )
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield peer
        finally:
            server.shutdown()
            thread.join()


def _send_messages(inner: socket.socket, connection: ServerConnection) -> None:
    with suppress(OSError, ConnectionClosed):
        while data := inner.recv(1000):  # small, so that frames are in pieces
            connection.send(data)
    connection.close()


def start_web_server(response: bytes, context: ssl.SSLContext | None = None) -> AbstractContextManager[Peer]:
    """A server that answers every request with the same bytes."""

    def script(sock: socket.socket) -> None:
        _read_head(sock)
        sock.sendall(response)

    return start_peer(script, context)


def start_proxy(names: Mapping[str, int], *, credentials: str | None = None) -> AbstractContextManager[Peer]:
    """An HTTP proxy that opens tunnels to the ports of this machine that ``names`` stand for."""
    holder: list[Peer] = []

    def script(sock: socket.socket) -> None:
        head = _read_head(sock)
        holder[0].seen.append(head.partition("\r\n")[0])
        found = re.match(r"CONNECT ([^ ]+) HTTP/1.1\r\n", head)
        if credentials is not None and f"Proxy-Authorization: Basic {credentials}\r\n" not in head:
            sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif found is None or found[1] not in names:
            sock.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        else:
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            relay_to(names[found[1]])(sock)

    @contextmanager
    def start() -> Iterator[Peer]:
        with start_peer(script) as peer:
            holder.append(peer)
            yield peer

    return start()


def _read_head(sock: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(4096)
        if not more:
            break
        data += more
    return data.decode("latin-1")
