"""The gateway cannot read: it loads nothing that could, and nothing of a picture is ever in it."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclave_payload.wire import FrameType, encode_frame
from enclavectl.client.batch import classify
from enclavectl.client.pictures import Picture, read_picture
from enclavectl.client.session import Client
from enclavectl.net.carriage import encode_challenge
from tests.gateway.fake_enclave import ANSWER, EVIDENCE, fake_enclave
from tests.gateway.process import GatewayProcess, free_port, gateway, run_command, wait_until
from tests.gateway.test_hostile import read_exactly
from tests.gateway.tunnel import Way, tunnel
from tests.gateway.wire import Recording, capture, record
from tests.local_enclave import LocalEnclave

MARK = b"PLANTED-IN-A-PICTURE-7f3a9c"
SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "bcc.png"
FORBIDDEN = ("enclavectl.attestation", "enclavectl.protocol", "enclavectl.client", "enclavectl.evidence",
             "enclave_payload.seal", "cryptography", "cbor2", "PIL", "isal", "numpy")  # fmt: skip


def planted(folder: Path) -> Picture:
    """A sample with a comment that holds the mark many times."""
    data = SAMPLE.read_bytes()
    body = b"tEXtComment\0" + MARK * 200
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path = folder / "planted.png"
    path.write_bytes(data[:33] + chunk + data[33:])
    return read_picture(str(path), lambda _limit: b"")


def memory_of(running: GatewayProcess) -> list[bytes]:
    """Every readable page of the process."""
    pid, found = running.process.pid, []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if match is None or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = int(match[1], 16), int(match[2], 16)
            memory.seek(start)
            with suppress(OSError):  # a page of a device
                found.append(memory.read(end - start))
    return found


def memory_has(running: GatewayProcess, *secrets: bytes) -> bool:
    """Whether any readable page of the process has one of these."""
    return any(secret in pages for pages in memory_of(running) for secret in secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A gateway with a recording on each of its sides, and the page of its metrics."""

    running: GatewayProcess
    way: Way
    client_side: Recording
    enclave_side: Recording
    # None where this process may not see packets.
    packets: Recording | None
    metrics_port: int

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=60) as page:
            found: str = page.read().decode()
        return found

    def assert_carried(self, *secrets: bytes, carried: bool) -> None:
        assert self.client_side.has(*secrets) is carried
        assert self.enclave_side.has(*secrets) is carried
        assert self.packets is None or self.packets.has(*secrets) is carried


def _listen_unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def _dial_unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


@contextmanager
def watched(folder: Path, enclave: Path, *, websocket: bool, **settings: int) -> Iterator[Watched]:
    """Client, recording, gateway, recording, enclave."""
    metrics_port = free_port()
    near, between = socket.create_server(("127.0.0.1", 0)), folder / "r.sock"
    with ExitStack() as stack:
        enclave_side = stack.enter_context(record(_listen_unix(between), lambda: _dial_unix(enclave)))
        arguments = ("--metrics", f"127.0.0.1:{metrics_port}")
        running = stack.enter_context(
            gateway(folder / "g", [f"VISIBLE-RELEASE@unix:{between}"], *arguments, **settings)
        )
        client_side = stack.enter_context(
            record(near, lambda: socket.create_connection(("127.0.0.1", running.port)))
        )
        packets = None
        with suppress(PermissionError):
            packets = stack.enter_context(capture(running.port))
        yield Watched(
            running=running,
            way=Way(port=near.getsockname()[1], websocket=websocket),
            client_side=client_side,
            enclave_side=enclave_side,
            packets=packets,
            metrics_port=metrics_port,
        )


@pytest.mark.parametrize("websocket", [True, False], ids=["websocket", "frames"])
def test_nothing_of_a_picture_or_an_answer_is_in_memory_logs_metrics_or_packets(
    tmp_path: Path, enclave: LocalEnclave, websocket: bool
) -> None:
    picture = planted(tmp_path)
    assert MARK in picture.data
    with watched(tmp_path, enclave.address.path, websocket=websocket) as seen:
        signatures = []
        with (
            tunnel(seen.way, tmp_path / "t.sock") as address,
            Client.connect(address, enclave.expectation, timeout_s=30) as client,
        ):
            for reply in classify(client, [picture] * 10, timeout_s=30):
                assert reply.receipted is not None
                # The end of a receipt is in the answer, and nowhere else.
                signatures.append(reply.receipted.receipt[-48:])
            assert not memory_has(seen.running, MARK, *signatures)
        seen.running.wait_for_records(1)
        assert not memory_has(seen.running, MARK, *signatures)
        assert len(seen.enclave_side) > 10 * len(picture.data)
        seen.assert_carried(MARK, *signatures, carried=False)
        said = seen.running.log + seen.running.notes + seen.metrics()
        assert "VISIBLE-RELEASE" in said
        assert MARK.decode() not in said


@pytest.mark.parametrize("websocket", [True, False], ids=["websocket", "frames"])
def test_the_search_finds_what_a_client_sends_in_plain(tmp_path: Path, websocket: bool) -> None:
    """The control of the test above: its searches find a secret where there is one."""
    frame = encode_frame(FrameType.SEALED, MARK * (3_000_000 // len(MARK)))
    with (
        fake_enclave(tmp_path / "s") as careless,
        watched(tmp_path, careless.path, websocket=websocket, write_s=60, probe_s=3600) as seen,
    ):
        assert not memory_has(seen.running, MARK)
        stream = seen.way.open()
        stream.send(encode_challenge(bytes(32)))
        read_exactly(stream, len(EVIDENCE))
        careless.may_read.clear()
        sending = threading.Thread(target=stream.send, args=(frame,))
        sending.start()
        wait_until(lambda: memory_has(seen.running, MARK), "the gateway holds what the enclave does not read")
        careless.may_read.set()
        sending.join()
        read_exactly(stream, len(ANSWER))
        stream.close()
        seen.assert_carried(MARK, carried=True)
        assert memory_has(seen.running, b"VISIBLE-RELEASE")


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
