"""A hostile relay in front of an enclave: it sees every frame, and may change it or end the session."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from enclavectl.net.address import UnixAddress
from enclavectl.net.frames import FrameType

# A frame's type and body; what is returned goes on in its place, None ends the connection.
Change = Callable[[FrameType, bytes], bytes | None]


@contextmanager
def relay(folder: Path, enclave: UnixAddress, change: Change) -> Iterator[UnixAddress]:
    """Relay connections until the block ends."""
    address = UnixAddress(folder / "relay.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address.path))
        server.listen()
        thread = threading.Thread(target=_serve, args=(server, enclave, change), daemon=True)
        thread.start()
        yield address
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def _serve(server: socket.socket, enclave: UnixAddress, change: Change) -> None:
    sessions = []
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            sessions.append(threading.Thread(target=_session, args=(client, enclave, change)))
            sessions[-1].start()
    for one in sessions:
        one.join()


def _session(client: socket.socket, enclave: UnixAddress, change: Change) -> None:
    with client, socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(enclave.path))
        back = threading.Thread(target=_pass_on, args=(peer, client, change))
        back.start()
        _pass_on(client, peer, change)
        back.join()


def _pass_on(source: socket.socket, target: socket.socket, change: Change) -> None:
    with suppress(OSError), source.makefile("rb") as stream:
        while header := stream.read(5):
            size, kind = struct.unpack(">IB", header)
            body = change(FrameType(kind), stream.read(size - 1))
            if body is None:
                break
            target.sendall(struct.pack(">IB", 1 + len(body), kind) + body)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def flipped(kind: FrameType, at: int) -> Change:
    """Flip a bit of every frame of this type, ``at`` bytes from its start or its end."""

    def change(found: FrameType, body: bytes) -> bytes:
        if found != kind:
            return body
        changed = bytearray(body)
        changed[at] ^= 1
        return bytes(changed)

    return change
