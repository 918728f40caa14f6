"""One address for gateways that come and go, as a load balancer has it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(kw_only=True)
class Front:
    """Connections to ``own_port`` go on to ``port``; 0: to nobody."""

    own_port: int
    port: int = 0


@contextmanager
def open_front() -> Iterator[Front]:
    """Listen on loopback until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        front = Front(own_port=server.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(server, front), daemon=True)
        thread.start()
        yield front
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def _serve(server: socket.socket, front: Front) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            threading.Thread(target=_carry, args=(client, front.port), daemon=True).start()


def _carry(client: socket.socket, port: int) -> None:
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as peer:
        back = threading.Thread(target=_pass_on, args=(peer, client), daemon=True)
        back.start()
        _pass_on(client, peer)
        back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
