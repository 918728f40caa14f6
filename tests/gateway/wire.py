"""A wire: a relay that keeps both directions, the packets of this host, and the search in them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

# A picture's packets at once. Where the kernel gives less, the control tells that packets were lost.
_CAPTURE_BUFFER_BYTES = 32 << 20
_MASK_BYTES = 4
Dial = Callable[[], socket.socket]


class Recording:
    """Bytes that went by, in order of each direction of each connection."""

    def __init__(self) -> None:
        self._streams: list[bytearray] = []

    def stream(self) -> bytearray:
        """Begin another direction of a connection."""
        self._streams.append(bytearray())
        return self._streams[-1]

    def has(self, *secrets: bytes) -> bool:
        """Whether one of these went by in plain, or masked as RFC 6455 has it."""
        return any(_holds(bytes(stream), secrets) for stream in self._streams)

    def __len__(self) -> int:
        return sum(map(len, self._streams))


def _holds(data: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether data has a secret, or one combined with any four bytes over and over."""
    combined = _unmasked(data)
    return any(secret in data or _unmasked(secret) in combined for secret in secrets)


def _unmasked(data: bytes) -> bytes:
    """Combine each byte with the fourth after it: what a mask of four bytes does not change."""
    later = data[_MASK_BYTES:]
    combined = int.from_bytes(data[: len(later)], "big") ^ int.from_bytes(later, "big")
    return combined.to_bytes(len(later), "big")


@contextmanager
def record(listening: socket.socket, dial: Dial) -> Iterator[Recording]:
    """Relay each connection to where ``dial`` leads, and keep what goes by. Closes the listening socket."""
    found = Recording()

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                streams = found.stream(), found.stream()
                threading.Thread(target=_relay, args=(near, dial(), streams), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield found
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def _relay(near: socket.socket, far: socket.socket, kept: tuple[bytearray, bytearray]) -> None:
    with near, far:
        down = threading.Thread(target=_copy, args=(far, near, kept[1]))
        down.start()
        _copy(near, far, kept[0])
        down.join()


def _copy(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 18):
            kept += data
            sink.sendall(data)
    for sock in (source, sink):
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def capture(port: int) -> Iterator[Recording]:
    """Keep every packet from or to a TCP port, on all interfaces of this network namespace.

    Raises:
        PermissionError: this process may not see packets.
    """
    found = Recording()
    number = port.to_bytes(2, "big")
    ends = {True: found.stream(), False: found.stream()}

    def listen(sock: socket.socket) -> None:
        while not done.is_set():
            with suppress(TimeoutError):
                packet = sock.recv(1 << 17)
                transport = packet[14 + 20 :]  # behind Ethernet and IPv4, as the loopback has them
                if packet[14:15] == b"\x45" and number in (transport[:2], transport[2:4]):
                    header_bytes = (transport[12] >> 4) * 4
                    ends[transport[:2] == number] += transport[header_bytes:]

    done = threading.Event()
    # 3 is ETH_P_ALL.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CAPTURE_BUFFER_BYTES)
        sock.settimeout(0.2)
        thread = threading.Thread(target=listen, args=(sock,))
        thread.start()
        try:
            yield found
        finally:
            done.set()
            thread.join()
