"""A real guest's driver behind our vsock device: every byte comes back, and how fast."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import pytest

from enclavectl.eif.build import ImageSpec, build_image
from enclavectl.eif.file_range import bytes_range
from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.ramdisks import BootFile, Mode, boot_entries, write_ramdisk
from enclavectl.image.kernel import CMDLINE, find_compiler
from tests.cli.command import enclavectl
from tests.eif import samples
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
    """An enclave image whose init is ``echo.c``."""
    folder = tmp_path_factory.mktemp("echo")
    done = enclavectl("kernel", "prepare", "--root", parts.kernel_root, "--to", folder / "blobs", home=folder)
    assert done.status == 0, done.err
    source = Path(__file__).with_name("echo.c")
    compiler = find_compiler(os.environ.get("PATH"))
    subprocess.run([compiler, "-static", "-Os", "-s", "-o", folder / "echo", source], check=True, timeout=120)
    files = [BootFile(name="init", data=bytes_range((folder / "echo").read_bytes()))]
    files += [
        BootFile(name=path.name, data=bytes_range(path.read_bytes()))
        for path in (folder / "blobs" / "modules").iterdir()
    ]
    ramdisk = BytesIO()
    write_ramdisk(ramdisk, boot_entries(files), Mode.REPRODUCIBLE)
    spec = ImageSpec(
        kernel=bytes_range((folder / "blobs" / "bzImage").read_bytes()),
        cmdline=CMDLINE,
        ramdisks=(bytes_range(ramdisk.getvalue()),),
        metadata=samples.METADATA,
        arch=Arch.X86_64,
    )
    build_image(spec, folder / "echo.eif")
    return folder / "echo.eif"


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
