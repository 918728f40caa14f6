"""Each bound of the gateway at its edge: a table says where, and what no other file has is here."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from enclavectl.config.gateway import GatewayConfig
from enclavectl.gateway.admission import ANONYMOUS
from enclavectl.gateway.gateway import Gateway
from enclavectl.gateway.listener import Listener, listen_on
from enclavectl.gateway.probes import probe
from enclavectl.gateway.session import Guest, Session, SessionContext
from enclavectl.gateway.settings import GatewaySettings, parse_host_port
from enclavectl.gateway.tally import Carrier, Outcome, Tally
from enclavectl.gateway.upgrade import SUBPROTOCOL
from enclavectl.gateway.websocket_end import WebSocketEnd
from enclavectl.net.address import UnixAddress
from enclavectl.net.carriage import RefusalCode, encode_challenge, refusal_frame
from tests.gateway.conftest import Authority
from tests.gateway.fake_enclave import EVIDENCE, FakeEnclave
from tests.gateway.full_house import full_house
from tests.gateway.limits import gateway_limits
from tests.gateway.process import gateway, run_command
from tests.gateway.test_hostile import read_exactly
from tests.gateway.tunnel import Way

LIMITS = gateway_limits()
MEMORY_MIB = 128

# Where each bound is tested at its edge.
EDGES = {
    "connections": "test_bounds.test_the_last_connection_fits_in_128_mib_and_the_next_is_refused",
    "connections_per_client": "test_bounds.test_a_name_and_an_enclave_have_their_last_session",
    "connections_per_address": "test_hostile.test_one_client_and_one_address_have_their_bounds",
    "connections_per_enclave": "test_bounds.test_a_name_and_an_enclave_have_their_last_session",
    "handshakes": "test_admission.test_of_connections_that_say_nothing_the_oldest_of_the_greediest_gives_way",
    "handshake_s": "test_hostile.test_who_stops_in_the_middle_of_tls_is_let_go",
    "first_frame_s": "test_session.test_a_challenge_has_its_time",
    "frame_s": "test_session.test_a_frame_ends_within_its_time",
    "frame_rate": "test_session.test_a_frame_keeps_its_rate_after_its_grace",
    "frame_grace_s": "test_session.test_a_frame_that_stands_still_has_its_grace",
    "idle_s": "test_session.test_an_idle_session_has_its_time",
    "session_s": "test_session.test_a_session_is_drained_at_its_age",
    "write_s": "test_session.test_an_enclave_that_does_not_read_is_given_up",
    "requests_per_s": "test_admission.test_a_client_has_one_rate_however_many_sessions_it_has",
    "requests_burst": "test_session.test_a_client_over_its_rate_waits_and_loses_nothing",
    "probe_s": "test_hostile.test_an_enclave_that_ends_leaves_the_routing_and_comes_back",
    "probe_timeout_s": "test_bounds.test_an_enclave_has_its_time_for_a_probe",
    "ping_s": "test_bounds.test_a_client_has_its_time_for_a_pong",
    "control_per_s": "test_bounds.test_pings_have_their_rate",
    "control_burst": "test_bounds.test_pings_have_their_burst",
    "drain_accept_s": "test_command.test_after_sigterm_it_is_not_ready_serves_for_a_while_and_drains",
    "drain_s": "test_command.test_a_drain_waits_no_longer_than_its_time",
    "linger_s": "test_bounds.test_a_peer_has_its_time_for_our_last_words",
    "request_bytes": "test_bounds.test_an_http_request_has_its_bytes",
    "message_bytes": "test_bounds.test_a_message_has_its_bytes",
    "receive_buffer_bytes": "test_bounds.test_the_kernel_keeps_no_more_of_a_client_than_its_buffer",
}


def test_every_bound_has_a_test_at_its_edge() -> None:
    assert set(EDGES) | {"announce"} == {one.name for one in fields(GatewayConfig)}
    for place in EDGES.values():
        module, _, name = place.partition(".")
        assert callable(getattr(importlib.import_module(f"tests.gateway.{module}"), name)), place


def test_the_last_connection_fits_in_128_mib_and_the_next_is_refused(
    tmp_path: Path, authority: Authority
) -> None:
    with full_house(tmp_path, authority, websocket=True) as house:
        assert house.running.memory_kib() < MEMORY_MIB * 1024
        with house.knock() as one_more:
            # Its 503 has been read as far as its text.
            assert one_more.recv(1 << 16) == b"too many connections\n"


def test_a_name_and_an_enclave_have_their_last_session(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    folder.mkdir(mode=0o700)
    tokens = [run_command(folder, "gateway", "token", "add", name).stdout.strip() for name in ("a", "b")]
    enclave = FakeEnclave(tmp_path / "s")
    with gateway(folder, [f"r@{enclave}"], connections_per_client=2, connections_per_enclave=3) as running:
        ways = [Way(port=running.port, headers={"Authorization": f"Bearer {token}"}) for token in tokens]
        streams = []
        for way in (ways[0], ways[0], ways[1]):
            streams.append(way.open())
            streams[-1].send(encode_challenge(bytes(32)))
            read_exactly(streams[-1], len(EVIDENCE))
        for way, word in zip(ways, (b"this client", b"full"), strict=True):
            with pytest.raises(InvalidStatus) as refused:
                way.open()
            assert refused.value.response.status_code == 503
            assert word in (refused.value.response.body or b"")
        for stream in streams:
            stream.close()
    enclave.stop()


@pytest.mark.parametrize(("timeout_s", "is_up"), [(20, True), (0.2, False)])
def test_an_enclave_has_its_time_for_a_probe(tmp_path: Path, timeout_s: float, is_up: bool) -> None:
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(2) as executor:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def answer_late() -> None:
            sock, _ = listening.accept()
            with sock:
                # The one that has less time hears nothing within it.
                if sock.recv(100) and is_up:
                    sock.sendall(EVIDENCE)
                sock.recv(100)

        answering = executor.submit(answer_late)
        address = UnixAddress(tmp_path / "s")
        assert asyncio.run(probe(address, executor, timeout_s)) is is_up
        answering.result(20)


def test_the_kernel_keeps_no_more_of_a_client_than_its_buffer(tmp_path: Path) -> None:
    limits = gateway_limits(receive_buffer_bytes=64 * 1024)
    settings = GatewaySettings(
        listen=parse_host_port("127.0.0.1:0", "--listen"), tokens=tmp_path / "tokens", limits=limits
    )

    async def buffer_bytes() -> int:
        sock = listen_on(settings.listen)
        nothing = Gateway(settings, record=lambda _record: None, note=lambda _note: None)
        listener = Listener(sock, nothing, settings, None)
        with socket.create_connection(("127.0.0.1", listener.port)):
            accepted, _ = await asyncio.get_running_loop().sock_accept(sock)
            with accepted:
                found = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        listener.close()
        return found

    # Linux doubles it, for what it keeps of a packet beside its bytes.
    assert asyncio.run(buffer_bytes()) == 2 * limits.receive_buffer_bytes


class Transport(asyncio.Transport):
    """Keeps what an end writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        """Nothing is under way."""

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Nobody sends by itself."""

    def resume_reading(self) -> None:
        """Nobody sends by itself."""


UPGRADE_HEADERS = (
    *(b"Host: x", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13"),
    *(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Protocol: enclavectl.v1"),
)


class Stand:
    """A client that speaks ``websockets``' own protocol, and an end with a session. No socket."""

    def __init__(self, limits: GatewayConfig) -> None:
        self.transport = Transport()
        self.outcomes: list[Outcome] = []
        self.routed: list[Session] = []
        self.client = ClientProtocol(
            parse_uri("ws://localhost/v1"), subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=None
        )
        context = SessionContext(
            limits=limits,
            tally=Tally(),
            clock=asyncio.get_running_loop().time,
            route=self.routed.append,
            ended=lambda _session, outcome: self.outcomes.append(outcome),
        )
        guest = Guest(carrier=Carrier.WEBSOCKET, identity=ANONYMOUS, address="192.0.2.1")

        def decide(end: WebSocketEnd, _request: Request) -> Session:
            self.session = Session(context, end, guest)
            return self.session

        self.end = WebSocketEnd(self.transport, limits, decide, lambda: None)

    def upgrade(self) -> None:
        self.client.send_request(self.client.connect())
        self.deliver()
        self.hear()

    def deliver(self) -> None:
        """Hand the end what the client has said, in one piece."""
        self.end.data_received(b"".join(self.client.data_to_send()))

    def hear(self) -> list[Frame]:
        """Return the frames that the end has sent."""
        data, self.transport.written = self.transport.written, b""
        self.client.receive_data(data)
        return [event for event in self.client.events_received() if isinstance(event, Frame)]

    @property
    def code(self) -> int | None:
        self.hear()
        received = self.client.close_rcvd
        return None if received is None else received.code


def on_a_stand(check: Callable[[Stand], None], limits: GatewayConfig = LIMITS) -> None:
    async def run() -> None:
        stand = Stand(limits)
        stand.upgrade()
        check(stand)

    asyncio.run(run())


@pytest.mark.parametrize(("over", "code"), [(0, None), (1, CloseCode.MESSAGE_TOO_BIG)])
def test_a_message_has_its_bytes(over: int, code: int | None) -> None:
    def check(stand: Stand) -> None:
        stand.client.send_binary(encode_challenge(bytes(32)))
        stand.deliver()
        assert stand.routed == [stand.session]
        # The bytes are no request, which is the session's business; the size is looked at first.
        stand.client.send_binary(b"\0" * (LIMITS.message_bytes + over))
        stand.deliver()
        assert stand.code == (code or CloseCode.POLICY_VIOLATION)

    on_a_stand(check)


@pytest.mark.parametrize(("over", "ends"), [(0, False), (1, True)])
def test_an_http_request_has_its_bytes(over: int, ends: bool) -> None:
    async def run() -> None:
        stand = Stand(LIMITS)
        head = b"GET /v1 HTTP/1.1\r\n" + b"X: y\r\n" * 100
        stand.end.data_received(head)
        stand.end.data_received(b"Z: " + b"z" * (LIMITS.request_bytes - len(head) - 3 + over))
        assert stand.transport.is_aborted is ends

    asyncio.run(run())


@pytest.mark.parametrize("is_ping", [True, False])
@pytest.mark.parametrize(("over", "ends"), [(0, False), (1, True)])
def test_pings_have_their_burst(over: int, ends: bool, is_ping: bool) -> None:
    """A message without a byte costs the gateway as much as a ping, and brings the enclave as little."""

    def check(stand: Stand) -> None:
        for _ in range(LIMITS.control_burst + over):
            (stand.client.send_ping if is_ping else stand.client.send_binary)(b"")
        stand.deliver()
        assert stand.code == (CloseCode.POLICY_VIOLATION if ends else None)

    on_a_stand(check)


@pytest.mark.parametrize(("rate", "ends"), [(1_000_000, False), (1, True)])
def test_pings_have_their_rate(rate: int, ends: bool) -> None:
    """A bucket's arithmetic is tested with its own clock; here the end asks it for each ping."""

    def check(stand: Stand) -> None:
        for _ in range(10):
            stand.client.send_ping(b"")
            stand.deliver()
            stand.hear()
        assert (stand.outcomes == [Outcome.PROTOCOL]) is ends

    on_a_stand(check, gateway_limits(control_per_s=rate, control_burst=1))


@pytest.mark.parametrize(("late_s", "ends"), [(0.0, False), (0.1, True)])
def test_a_client_has_its_time_for_a_pong(late_s: float, ends: bool) -> None:
    def check(stand: Stand) -> None:
        stand.end.check(1000.0)
        stand.end.check(1000.0 + LIMITS.ping_s)
        assert [frame.opcode.name for frame in stand.hear()] == ["PING"]
        stand.end.check(1000.0 + 2 * LIMITS.ping_s + late_s)
        assert (stand.outcomes == [Outcome.SLOW]) is ends

    on_a_stand(check)


def test_a_peer_has_its_time_for_our_last_words() -> None:
    async def run() -> None:
        stand = Stand(gateway_limits(linger_s=0.2))
        stand.upgrade()
        stand.session.refuse(RefusalCode.STOPPING, Outcome.STOPPING)
        words = stand.hear()
        assert words[0].data == refusal_frame(RefusalCode.STOPPING)
        assert not stand.transport.is_aborted
        while not stand.transport.is_aborted:  # noqa: ASYNC110 - a transport has no event
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("head", [b"GET /v1 HTTP/1.1", b"GET /healthz HTTP/1.1"])
@pytest.mark.parametrize(
    "rest",
    [
        *(b"GET /v1 HTTP/1.1\r\n\r\n", b"\xff" * 20, b"\x81\x80abcd", b"\x88\x80abcd", b"\x89\x80abcd"),
        *(b"\x82\x7f" + b"\xff" * 8, b"\x82\x84abcd" + bytes(4)),
    ],
    ids=bytes.hex,
)
def test_what_follows_a_request_before_its_answer_ends_the_connection(head: bytes, rest: bytes) -> None:
    """Not with an error of the library's, of which each would be a line of the log."""

    async def run() -> None:
        stand = Stand(LIMITS)
        lines = [head, *UPGRADE_HEADERS, b"", b""]
        stand.end.data_received(b"\r\n".join(lines) + rest)
        assert stand.transport.is_aborted
        assert stand.transport.written == b""
        assert not stand.routed

    asyncio.run(run())
