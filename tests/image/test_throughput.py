"""A real guest's driver behind our vsock device: every byte comes back, and how fast."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.image.echo import build_echo_image
from tests.image.guest import Parts, qemu_parts, start_guest

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(900)]

PORT = 7000
# Enough that the start of the stream does not count.
SENT = os.urandom(1 << 20)
PIECE = 16 * 1024


@pytest.fixture(scope="module")
def parts() -> Parts:
    return qemu_parts()


@pytest.fixture(scope="module")
def image(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_echo_image(parts.kernel_root, tmp_path_factory.mktemp("echo"))


def echoed(sock: socket.socket) -> tuple[bytes, float]:
    """What comes back, piece by piece, and the seconds that it took."""
    start = time.monotonic()
    found = b""
    for begin in range(0, len(SENT), PIECE):
        sock.sendall(SENT[begin : begin + PIECE])
        while len(found) < begin + PIECE:
            data = sock.recv(PIECE)
            assert data, f"the stream ended after {len(found)} bytes"
            found += data
    return found, time.monotonic() - start


def test_every_byte_comes_back(parts: Parts, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Not pytest's folder: a Unix socket's path has at most 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="enclavectl-echo-") as folder,
        start_guest(parts, Path(folder), 16, image) as guest,
        guest.connect(PORT) as sock,
    ):
        sock.settimeout(60)
        found, took_s = echoed(sock)
    assert found == SENT
    # No limit, since it depends on what else the machine does.
    with capsys.disabled():
        sys.stderr.write(f"vsock: {len(SENT) / took_s / 2**20:.1f} MiB/s there and back\n")
