"""What the gateway adds to a request of 400 kB, what that takes of the processor, and memory at its bound.

The enclave answers at once with an answer's bytes, so that all of the rest is the relay.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import PROJECT, SAMPLE, Row, decoders_of
from benchmarks.pool import WORKERS
from enclave_payload.wire import FrameType, encode_frame
from enclavectl.client.batch import classify
from enclavectl.client.pictures import read_picture
from enclavectl.client.session import Client
from enclavectl.net.access import NO_ACCESS, Access
from enclavectl.net.address import Address, StreamAddress, parse_address
from enclavectl.net.carriage import encode_challenge
from enclavectl.net.stream import ByteStream
from enclavectl.net.transport import open_stream
from tests.gateway.conftest import Authority, make_authority
from tests.gateway.fake_enclave import ANSWER, EVIDENCE
from tests.gateway.full_house import full_house
from tests.gateway.process import GatewayProcess, gateway, wait_until
from tests.gateway.tunnel import SocketStream, Stream, Way
from tests.local_enclave import start_local_enclave

REQUEST = encode_frame(FrameType.SEALED, bytes(400_000))
_ROUNDS = 300
_WARMUP = 20
_HONEST = 100
_PICTURES = 200
_TURNS = 7
_TIMEOUT_S = 60.0
# As `net.frames` sends to a gateway.
_SEND_BYTES = 64 * 1024
_TICKS = os.sysconf("SC_CLK_TCK")
FREE = {"requests_per_s": 100_000, "requests_burst": 100_000, "connections_per_address": 1000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An enclave of zeros with two gateways, of which ``secure`` has TLS of ``authority``."""

    folder: Path
    authority: Authority
    plain: GatewayProcess
    secure: GatewayProcess

    @property
    def enclave(self) -> Path:
        """The enclave's own socket."""
        return self.folder / "e.sock"


@contextmanager
def site() -> Iterator[Site]:
    """Start an enclave and its gateways."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        authority = make_authority(folder)
        address = stack.enter_context(enclave_of_zeros(folder / "e.sock"))
        plain = stack.enter_context(gateway(folder / "g", [address], **FREE))
        secure = stack.enter_context(gateway(folder / "t", [address], *authority.arguments, **FREE))
        yield Site(folder=folder, authority=authority, plain=plain, secure=secure)


def main() -> list[Row]:
    """Make two rows for each way to connect, and one of memory."""
    with site() as found:
        access = Access(ca_pem=(found.authority.folder / "ca.pem").read_bytes())
        rows = []
        for what, running, address, limit_ms in (
            ("TCP", found.plain, f"tcp:127.0.0.1:{found.plain.port}", 1.0),
            ("WebSocket", found.plain, f"ws://127.0.0.1:{found.plain.port}", 2.0),
            ("TLS", found.secure, f"tls:localhost:{found.secure.port}", float("inf")),
            ("WebSocket and TLS", found.secure, f"wss://localhost:{found.secure.port}", float("inf")),
        ):
            used = access if running is found.secure else NO_ACCESS
            client = ClientStream(open_stream(parse_address(address), _TIMEOUT_S, used))
            rows += _time(found.enclave, what, running, client, limit_ms)
        rows.append(_beside_a_crowd(found.plain))
        rows += _in_flight(found.folder)
        return [*rows, _memory(found.folder, found.authority)]


@contextmanager
def enclave_of_zeros(path: Path) -> Iterator[str]:
    """Start an enclave that answers at once with zeros; yield its destination."""
    command = [sys.executable, "-m", "tests.gateway.fake_enclave", str(path)]
    with subprocess.Popen(command, cwd=PROJECT) as process:
        try:
            wait_until(path.exists, "the enclave listens")
            yield f"r@unix:{path}"
        finally:
            process.terminate()


class ClientStream:
    """The client's own connection, as ``diagnose`` has it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        stream.settimeout(_TIMEOUT_S)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        left = memoryview(data)
        while left:
            self._stream.settimeout(_TIMEOUT_S)
            left = left[self._stream.sendmsg([left[:_SEND_BYTES]]) :]

    def receive(self) -> bytes:
        """Return what comes next."""
        self._stream.settimeout(_TIMEOUT_S)
        return self._stream.recv(1 << 16)

    def close(self) -> None:
        """End the connection."""
        self._stream.close()


def _time(path: Path, what: str, running: GatewayProcess, client: Stream, limit_ms: float) -> list[Row]:
    """Take turns between the enclave's socket and the gateway, on two open connections."""
    direct_socket = socket.socket(socket.AF_UNIX)
    direct_socket.connect(str(path))
    streams: tuple[Stream, Stream] = (client, SocketStream(direct_socket))
    for stream in streams:
        stream.send(encode_challenge(bytes(32)))
        receive(stream, len(EVIDENCE))
    times: tuple[list[float], list[float]] = ([], [])
    before_s = 0.0
    for round_number in range(_WARMUP + _ROUNDS):
        if round_number == _WARMUP:
            before_s = _cpu_s(running)
        for stream, found in zip(streams, times, strict=True):
            began_at = time.perf_counter()
            stream.send(REQUEST)
            receive(stream, len(ANSWER))
            found.append((time.perf_counter() - began_at) * 1e3)
    cpu_ms = (_cpu_s(running) - before_s) * 1e3 / _ROUNDS
    for stream in streams:
        stream.close()
    ours, base = (statistics.median(found[_WARMUP:]) for found in times)
    return [
        Row(
            what=f"400 kB by {what}: ms that the relay adds",
            ours=f"{ours:.2f} ms (fastest tenth {_tenth(times[0]):.2f})",
            base=f"{base:.2f} ms (fastest tenth {_tenth(times[1]):.2f})",
            ratio=ours - base,
            limit=limit_ms,
        ),
        Row(
            what=f"400 kB by {what}: the relay's CPU ms",
            ours=f"{cpu_ms:.2f} ms",
            base="",
            ratio=cpu_ms,
            limit=1.5 if what == "TCP" else float("inf"),
        ),
    ]


def _tenth(times: list[float]) -> float:
    """Return the time within which a tenth of the rounds was: those that waited for no processor."""
    return sorted(times[_WARMUP:])[_ROUNDS // 10]


def receive(stream: Stream, count: int) -> None:
    """Receive so many bytes.

    Raises:
        RuntimeError: the stream ended before.
    """
    got = 0
    while got < count:
        more = stream.receive()
        if not more:
            raise RuntimeError(f"the stream ended after {got} of {count} bytes")
        got += len(more)


def _cpu_s(running: GatewayProcess) -> float:
    return cpu_s(running.process.pid)


def cpu_s(pid: int) -> float:
    """Return the processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _beside_a_crowd(running: GatewayProcess) -> Row:
    """Whole honest requests alone, and beside peers that complete none and come back each second."""

    def ask() -> float | None:
        began_at = time.perf_counter()
        stream = Way(port=running.port, websocket=False).open()
        try:
            stream.send(encode_challenge(bytes(32)))
            receive(stream, len(EVIDENCE))
            stream.send(REQUEST)
            receive(stream, len(ANSWER))
        except (OSError, RuntimeError):
            return None
        finally:
            stream.close()
        return (time.perf_counter() - began_at) * 1e3

    alone = statistics.median(filter(None, (ask() for _ in range(_HONEST))))
    command = [sys.executable, "-m", "tests.gateway.crowd", str(running.port), "500", "100"]
    with subprocess.Popen(command, cwd=PROJECT) as crowd:
        time.sleep(3)
        times = [taken for _ in range(_HONEST) if (taken := ask()) is not None]
        crowd.terminate()
    beside = statistics.median(times)
    return Row(
        what="whole request beside 500 idle and 100 garbage peers",
        ours=f"{beside:.2f} ms ({len(times)} of {_HONEST} answered)",
        base=f"{alone:.2f} ms",
        ratio=beside / alone,
        limit=2,
    )


def _in_flight(folder: Path) -> list[Row]:
    """Sixteen pictures in flight to a real enclave, straight and through the gateway, on the same cores."""
    picture = read_picture(str(SAMPLE), lambda _: b"")
    with (
        start_local_enclave(folder / "l", workers=decoders_of(WORKERS)) as enclave,
        gateway(folder / "f", [f"r@{enclave.address}"], **FREE) as running,
    ):
        tcp = StreamAddress("127.0.0.1", running.port, is_secure=False)

        def ask(address: Address) -> float:
            with Client.connect(address, enclave.expectation, timeout_s=60) as client:
                began_at = time.perf_counter()
                for reply in classify(client, [picture] * _PICTURES, timeout_s=60, in_flight=16):
                    if reply.error is not None:
                        raise reply.error
                return time.perf_counter() - began_at

        straight, through = [], []
        ask(tcp)
        before_s = _cpu_s(running)
        for _ in range(_TURNS):
            through.append(ask(tcp))
            straight.append(ask(enclave.address))
        relay = (_cpu_s(running) - before_s) / sum(through)
    ours, base = (_PICTURES / statistics.median(times) for times in (through, straight))
    cores = os.cpu_count() or 1
    left = base * (1 - relay / cores)
    return [
        Row(
            what=f"16 in flight by TCP; the relay takes {relay / cores:.1%} of the processors",
            ours=f"{ours:.0f}/s",
            base=f"{base:.0f}/s, of which {left:.0f}/s are left",
            ratio=ours / left,
            limit=0.97,
            at_least=True,
        )
    ]


def _memory(folder: Path, authority: Authority) -> Row:
    """All connections that may be, each with as much under way as the gateway takes."""
    found = []
    for websocket in (False, True):
        house_folder = folder / f"m{websocket:d}"
        house_folder.mkdir()
        with full_house(house_folder, authority, websocket=websocket) as house:
            found.append(house.running.memory_kib() / 1024)
    return Row(
        what="MiB with 256 TLS sessions mid-request, WebSocket or frames",
        ours=f"{max(found):.0f} MiB",
        base="",
        ratio=max(found),
        limit=128,
    )
