"""The gateway cannot read: it loads nothing that could, and nothing of a picture is ever in it."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
import urllib.request
import zlib
from pathlib import Path

import pytest

from enclavectl.client.batch import classify
from enclavectl.client.pictures import Picture, read_picture
from enclavectl.client.session import Client
from tests.gateway.process import GatewayProcess, gateway, run_command
from tests.gateway.tunnel import Way, tunnel
from tests.local_enclave import LocalEnclave

MARK = b"PLANTED-IN-A-PICTURE-7f3a9c"
SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "bcc.png"
FORBIDDEN = ("enclavectl.attestation", "enclavectl.protocol", "enclavectl.client", "enclavectl.evidence",
             "enclave_payload.seal", "cryptography", "cbor2", "PIL", "numpy")  # fmt: skip


def planted(folder: Path) -> Picture:
    """A sample with a comment that holds the mark many times."""
    data = SAMPLE.read_bytes()
    body = b"tEXtComment\0" + MARK * 200
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path = folder / "planted.png"
    path.write_bytes(data[:33] + chunk + data[33:])
    return read_picture(str(path), lambda _limit: b"")


def memory_has(running: GatewayProcess, mark: bytes) -> bool:
    """Whether any readable page of the process has the bytes."""
    pid = running.process.pid
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if found is None or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = int(found[1], 16), int(found[2], 16)
            memory.seek(start)
            try:
                if mark in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


@pytest.mark.parametrize("websocket", [True, False], ids=["websocket", "frames"])
def test_nothing_of_a_picture_is_in_memory_logs_or_metrics(
    tmp_path: Path, enclave: LocalEnclave, websocket: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    metrics = ("--metrics", f"127.0.0.1:{port}")
    with gateway(tmp_path / "g", [f"VISIBLE-RELEASE@{enclave.address}"], *metrics) as running:
        signatures = []
        picture = planted(tmp_path)
        assert MARK in picture.data
        way = Way(port=running.port, websocket=websocket)
        with (
            tunnel(way, tmp_path / "t.sock") as address,
            Client.connect(address, enclave.expectation, timeout_s=30) as client,
        ):
            for reply in classify(client, [picture] * 20, timeout_s=30):
                assert reply.receipted is not None
                # The end of a receipt is in the answer, and nowhere else.
                signatures.append(reply.receipted.receipt[-48:])
            assert not memory_has(running, MARK)
            assert not any(memory_has(running, signature) for signature in signatures[-3:])
        running.wait_for_records(1)
        # The search finds what is there.
        assert memory_has(running, b"VISIBLE-RELEASE")
        assert not memory_has(running, MARK)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply_page:
            page = reply_page.read().decode()
        assert "VISIBLE-RELEASE" in page
        assert MARK.decode() not in running.log + running.notes + page


def test_the_running_process_has_loaded_nothing_that_could_open_a_frame(
    tmp_path: Path, enclave: LocalEnclave
) -> None:
    arguments = ("--metrics", "127.0.0.1:0")
    with gateway(tmp_path / "g", [f"r@{enclave.address}"], *arguments, is_traced=1) as running:
        loaded = set(re.findall(r"^import time: .*\| +(\S+)$", running.notes, re.MULTILINE))
        maps = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert "enclavectl.gateway.session" in loaded
    assert {name for name in loaded if name.startswith(FORBIDDEN)} == set()
    assert "cryptography" not in maps


def test_the_room_loads_without_what_could_open_a_frame() -> None:
    code = "import sys, enclavectl.gateway.running, enclavectl.gateway.metrics; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name for name in loaded.split() if name.startswith(FORBIDDEN)} == set()


def test_the_commands_on_tokens_need_no_enclave(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert run_command(tmp_path, "gateway", "token", "list").returncode == 0
