"""Peers that mean no good, against the real command."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from enclave_payload.wire import FrameType, encode_frame
from enclavectl.net.carriage import RefusalCode, encode_challenge, refusal_frame
from tests.gateway.conftest import Authority
from tests.gateway.fake_enclave import ANSWER, EVIDENCE, FakeEnclave, fake_enclave
from tests.gateway.process import GatewayProcess, gateway, run_command, wait_until
from tests.gateway.tunnel import Way, WebSocketStream

CHALLENGE = encode_challenge(bytes(32))
SEALED = encode_frame(FrameType.SEALED, bytes(1000))
UPGRADE = b"GET /v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
FAST = {"handshake_s": 1, "first_frame_s": 1, "frame_s": 2, "frame_grace_s": 1, "idle_s": 2, "write_s": 2}


@pytest.fixture(scope="module")
def enclave(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeEnclave]:
    with fake_enclave(tmp_path_factory.mktemp("f") / "s") as started:
        yield started


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory, enclave: FakeEnclave) -> Iterator[GatewayProcess]:
    """A gateway of short deadlines, and of room for many from this address."""
    settings = {**FAST, "connections_per_address": 200, "requests_per_s": 10_000, "requests_burst": 10_000}
    with gateway(tmp_path_factory.mktemp("g"), [f"r@{enclave}"], **settings) as running:
        yield running


def websocket(way: Way) -> WebSocketStream:
    stream = way.open()
    assert isinstance(stream, WebSocketStream)
    return stream


def read_to_end(sock: socket.socket) -> bytes:
    sock.settimeout(20)
    data = b""
    try:
        while more := sock.recv(1 << 16):
            data += more
    except ConnectionResetError:
        pass
    return data


def close_code(stream: WebSocketStream) -> int | None:
    try:
        while True:
            stream.connection.recv(timeout=60)
    except ConnectionClosed as exc:
        return None if exc.rcvd is None else exc.rcvd.code
    finally:
        stream.close()


def ask(running: GatewayProcess) -> None:
    """Make one honest request."""
    stream = Way(port=running.port, websocket=False).open()
    stream.send(CHALLENGE)
    read_exactly(stream, len(EVIDENCE))
    stream.send(SEALED)
    read_exactly(stream, len(ANSWER))
    stream.close()


def read_exactly(stream: object, count: int) -> None:
    got = 0
    while got < count:
        more = stream.receive()  # type: ignore[attr-defined]
        assert more, f"the stream ended after {got} of {count} bytes"
        got += len(more)


@pytest.mark.parametrize(
    ("data", "last"),
    [
        (b"", b""),
        (b"GE", b""),
        (UPGRADE, b""),
        (CHALLENGE[:1], refusal_frame(RefusalCode.SLOW)),
        (CHALLENGE[:-1], refusal_frame(RefusalCode.SLOW)),
    ],
    ids=["nothing", "two bytes", "half a request", "a byte of a frame", "a challenge but a byte"],
)
def test_who_stops_in_the_middle_of_the_opening_is_let_go(
    fast: GatewayProcess, data: bytes, last: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", fast.port)) as sock:
        sock.sendall(data)
        assert read_to_end(sock) == last


def test_who_stops_in_the_middle_of_tls_is_let_go(
    tmp_path: Path, enclave: FakeEnclave, authority: Authority
) -> None:
    with (
        gateway(tmp_path / "g", [f"r@{enclave}"], *authority.arguments, **FAST) as running,
        socket.create_connection(("127.0.0.1", running.port)) as sock,
    ):
        sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert read_to_end(sock) == b""


def test_tls_before_1_3_is_refused(tmp_path: Path, enclave: FakeEnclave, authority: Authority) -> None:
    tls = authority.trusting()
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        gateway(tmp_path / "g", [f"r@{enclave}"], *authority.arguments) as running,
        socket.create_connection(("127.0.0.1", running.port)) as sock,
        pytest.raises(ssl.SSLError),
    ):
        tls.wrap_socket(sock, server_hostname="localhost")


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (b"", RefusalCode.SLOW),
        (SEALED[:500], RefusalCode.SLOW),
        (CHALLENGE, RefusalCode.PROTOCOL),
        (b"\xff\xff\xff\xff\x03", RefusalCode.PROTOCOL),
    ],
    ids=["idle", "half a request", "a second challenge", "oversized"],
)
@pytest.mark.parametrize("kind", ["frames", "websocket"])
def test_who_misuses_an_open_session_hears_why(
    fast: GatewayProcess, kind: str, after: bytes, code: RefusalCode
) -> None:
    stream = Way(port=fast.port, websocket=kind == "websocket").open()
    stream.send(CHALLENGE)
    read_exactly(stream, len(EVIDENCE))
    if after:
        stream.send(after)
    heard = b""
    while more := stream.receive():
        heard += more
    assert heard == refusal_frame(code)
    if isinstance(stream, WebSocketStream):
        assert close_code(stream) == 1008
    stream.close()


def test_a_message_over_64_kib_is_refused_before_it_is_read(fast: GatewayProcess) -> None:
    stream = websocket(Way(port=fast.port))
    stream.connection.send(bytes(65_537))
    assert close_code(stream) == 1009


def test_a_text_message_is_refused(fast: GatewayProcess) -> None:
    stream = websocket(Way(port=fast.port))
    stream.connection.send("hello")
    assert close_code(stream) == 1003


def test_a_flood_of_pings_is_refused(fast: GatewayProcess) -> None:
    stream = websocket(Way(port=fast.port))
    with suppress(ConnectionClosed):
        # Ten times the burst; what came much later would be answered by a reset.
        for _ in range(200):
            stream.connection.ping()
    assert close_code(stream) == 1008


def test_fragments_of_any_size_are_the_same_stream(fast: GatewayProcess) -> None:
    stream = websocket(Way(port=fast.port))
    stream.connection.send([bytes([byte]) for byte in CHALLENGE])
    read_exactly(stream, len(EVIDENCE))
    protocol = stream.connection.protocol
    with stream.connection.send_context():
        protocol.send_binary(SEALED[:10], fin=False)
        protocol.send_ping(b"between")
        protocol.send_continuation(SEALED[10:], fin=True)
    read_exactly(stream, len(ANSWER))
    stream.close()


def test_a_request_with_headers_without_end_is_let_go(fast: GatewayProcess) -> None:
    with socket.create_connection(("127.0.0.1", fast.port)) as sock:
        sock.sendall(UPGRADE)
        with suppress(OSError):
            for _ in range(1000):
                sock.sendall(b"X-Header: " + b"x" * 1000 + b"\r\n")
        assert read_to_end(sock) == b""


@pytest.mark.parametrize("path", ["/v1/other", "/v1?token=abc", "/"])
def test_another_path_is_not_found(fast: GatewayProcess, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        Way(port=fast.port, path=path).open()
    assert refused.value.response.status_code == 404


def test_a_page_of_another_origin_is_refused_and_an_allowed_one_is_served(
    tmp_path: Path, enclave: FakeEnclave
) -> None:
    allowed = "https://portal.example"
    with gateway(tmp_path / "g", [f"r@{enclave}"], "--origin", allowed) as running:
        for origin in ("https://evil.example", "null", "https://portal.example.evil"):
            with pytest.raises(InvalidStatus) as refused:
                Way(port=running.port, headers={"Origin": origin}).open()
            assert refused.value.response.status_code == 403
        Way(port=running.port, headers={"Origin": allowed}).open().close()


def test_guessing_tokens_gets_nothing_and_a_revoked_one_ends_its_session(
    tmp_path: Path, enclave: FakeEnclave
) -> None:
    folder = tmp_path / "g"
    folder.mkdir(mode=0o700)
    token = run_command(folder, "gateway", "token", "add", "clinic").stdout.strip()
    with gateway(folder, [f"r@{enclave}"]) as running:
        guesses = ["", "x", token[:-1], token.swapcase(), token + "A", "A" * 43]
        for headers in [{}, *({"Authorization": f"Bearer {guess}"} for guess in guesses)]:
            with pytest.raises(InvalidStatus) as refused:
                Way(port=running.port, headers=headers).open()
            assert refused.value.response.status_code == 401
            assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"
        with pytest.raises(InvalidStatus) as refused:
            Way(port=running.port, path="/v1/other").open()
        assert refused.value.response.status_code == 401
        frames = Way(port=running.port, websocket=False).open()
        frames.send(CHALLENGE)
        assert frames.receive() == refusal_frame(RefusalCode.PROTOCOL)
        frames.close()
        right = {"Authorization": f"Bearer {token}"}
        stream = websocket(Way(port=running.port, headers=right))
        stream.send(CHALLENGE)
        read_exactly(stream, len(EVIDENCE))
        assert run_command(folder, "gateway", "token", "revoke", "clinic").returncode == 0
        assert stream.receive() == refusal_frame(RefusalCode.STOPPING)
        assert close_code(stream) == 1012
        with pytest.raises(InvalidStatus):
            Way(port=running.port, headers=right).open()
        [record] = running.wait_for_records(1)
        assert (record["client"], record["outcome"]) == ("clinic", "revoked")
        assert token not in running.log + running.notes


def test_one_client_and_one_address_have_their_bounds(tmp_path: Path, enclave: FakeEnclave) -> None:
    with gateway(tmp_path / "g", [f"r@{enclave}"], connections_per_address=3) as running:
        streams = [Way(port=running.port, websocket=False).open() for _ in range(3)]
        for stream in streams:
            stream.send(CHALLENGE)
            read_exactly(stream, len(EVIDENCE))
        with pytest.raises(InvalidStatus) as refused:
            Way(port=running.port).open()
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"] == "5"
        fourth = Way(port=running.port, websocket=False).open()
        fourth.send(CHALLENGE)
        assert fourth.receive() == refusal_frame(RefusalCode.BUSY)
        streams[0].close()
        running.wait_for_records(1)
        ask(running)
        for stream in (*streams, fourth):
            stream.close()


def test_an_enclave_that_ends_leaves_the_routing_and_comes_back(tmp_path: Path) -> None:
    first, second = FakeEnclave(tmp_path / "1"), FakeEnclave(tmp_path / "2")
    with gateway(tmp_path / "g", [f"a@{first}", f"b@{second}"]) as running:
        way = Way(port=running.port, path="/v1/a")
        wait_until(lambda: "a answers" in running.notes and "b answers" in running.notes, "both answer")
        stream = websocket(way)
        stream.send(CHALLENGE)
        read_exactly(stream, len(EVIDENCE))
        first.stop()
        assert stream.receive() == refusal_frame(RefusalCode.STOPPING)
        assert close_code(stream) == 1012
        with pytest.raises(InvalidStatus) as refused:
            way.open()
        assert refused.value.response.status_code == 503
        other = websocket(Way(port=running.port, path="/v1/b"))
        other.send(CHALLENGE)
        read_exactly(other, len(EVIDENCE))
        again = FakeEnclave(tmp_path / "1")
        wait_until(lambda: running.notes.count("a answers") == 2, "it is asked again")
        websocket(way).close()
        other.close()
        again.stop()
    second.stop()


def test_an_enclave_that_does_not_read_ends_its_session_and_holds_no_memory(tmp_path: Path) -> None:
    with (
        fake_enclave(tmp_path / "s") as stuck,
        gateway(tmp_path / "g", [f"r@{stuck}"], write_s=1, probe_s=3600) as running,
    ):
        stuck.may_read.clear()
        sock = socket.create_connection(("127.0.0.1", running.port))
        before = running.memory_kib()
        sock.sendall(CHALLENGE)
        sock.settimeout(20)
        assert sock.recv(1 << 16)
        frame = b"\x01\x00\x00\x00\x03" + bytes(8 << 20)
        threading.Thread(target=_push, args=(sock, frame), daemon=True).start()
        [record] = running.wait_for_records(1)
        assert record["outcome"] == "enclave_ended"
        assert running.memory_kib() - before < 4096
        stuck.may_read.set()
        sock.close()


def _push(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError:
        return  # the gateway has ended the connection


def test_honest_requests_are_served_beside_a_crowd(tmp_path: Path, enclave: FakeEnclave) -> None:
    settings = {"connections_per_address": 200, "requests_per_s": 10_000, "requests_burst": 10_000}
    with gateway(tmp_path / "g", [f"r@{enclave}"], **settings) as running:
        idle = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(500)]
        garbage = []
        for _ in range(100):
            sock = socket.create_connection(("127.0.0.1", running.port))
            _push(sock, b"\x00garbage" * 20)
            garbage.append(sock)
        # Each is served, or `ask` fails. benchmarks/gateway.py has the times.
        for _ in range(40):
            ask(running)
        for sock in (*idle, *garbage):
            sock.close()
