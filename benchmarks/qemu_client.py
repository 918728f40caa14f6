"""``python -m benchmarks.qemu_client DOOR``: MiB/s through the echo on the guest's port 7000, and back."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

from enclavectl.errors import StateError
from enclavectl.net.address import HybridVsockAddress
from enclavectl.net.transport import connect

_PORT = 7000
# At most 16 KiB in a write, and one of them on its way: the other device loses what is larger.
_PIECE = 16 * 1024
_SENT = 4 << 20
_BOUND_S = 240.0


def main(door: Path) -> None:
    """Wait until the guest listens; print the figure."""
    deadline = time.monotonic() + _BOUND_S
    while True:
        try:
            sock = connect(HybridVsockAddress(door, _PORT), _BOUND_S)
            break
        except StateError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    with sock:
        sock.settimeout(_BOUND_S)
        _echo(sock, 1 << 18)  # so that the guest's code is translated
        print(f"{_SENT / _echo(sock, _SENT) / 2**20:.2f}")


def _echo(sock: socket.socket, size: int) -> float:
    piece = os.urandom(_PIECE)
    started = time.monotonic()
    for _ in range(0, size, _PIECE):
        sock.sendall(piece)
        found = b""
        while len(found) < _PIECE:
            found += sock.recv(_PIECE)
        if found != piece:
            raise RuntimeError("something else came back")
    return time.monotonic() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]))
