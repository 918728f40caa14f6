"""As many sessions as a gateway takes, each in the middle of a request that its enclave does not read."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from enclave_payload.wire import FrameType, encode_frame
from enclavectl.net.carriage import encode_challenge
from tests.gateway.conftest import Authority
from tests.gateway.fake_enclave import EVIDENCE, fake_enclave
from tests.gateway.limits import gateway_limits
from tests.gateway.process import GatewayProcess, gateway, wait_until

MESSAGE_BYTES = gateway_limits().message_bytes
CONNECTIONS = gateway_limits().connections
_ENCLAVES = 5  # of 56 sessions each
_REQUEST = encode_frame(FrameType.SEALED, bytes(1_000_000))
_UPGRADE = (
    b"GET /v1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: enclavectl.v1\r\n\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FullHouse:
    """A gateway, its TLS for clients, and whether they speak WebSocket."""

    running: GatewayProcess
    tls: ssl.SSLContext
    websocket: bool

    def knock(self) -> ssl.SSLSocket:
        """Connect and send a challenge."""
        sock = socket.create_connection(("127.0.0.1", self.running.port))
        found = self.tls.wrap_socket(sock, server_hostname="localhost")
        found.settimeout(60)
        if self.websocket:
            found.sendall(_UPGRADE)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += found.recv(1)
            if not head.startswith(b"HTTP/1.1 101"):
                return found
        found.sendall(self.wrap(encode_challenge(bytes(32))))
        return found

    def enter(self) -> ssl.SSLSocket:
        """Connect, and read the evidence."""
        found = self.knock()
        got = 0
        while got < len(EVIDENCE):
            data = found.recv(1 << 16)
            assert data, f"the stream ended after {got} bytes"
            got += len(data)
        return found

    def wrap(self, data: bytes) -> bytes:
        """Make messages of 64 KiB, masked with zeros; frames stay as they are."""
        if not self.websocket:
            return data
        parts = (data[at : at + MESSAGE_BYTES] for at in range(0, len(data), MESSAGE_BYTES))
        return b"".join(b"\x82\xff" + len(part).to_bytes(8, "big") + bytes(4) + part for part in parts)


@contextmanager
def full_house(folder: Path, authority: Authority, *, websocket: bool) -> Iterator[FullHouse]:
    """Open all connections that may be, and push until neither the enclave nor the kernel takes more."""
    settings = {
        "connections_per_address": 1000,
        "connections_per_client": 1000,
        "handshake_s": 60,
        "first_frame_s": 60,
        "write_s": 600,
        "frame_s": 600,
        "probe_s": 600,
        "frame_grace_s": 600,
        "idle_s": 600,
        "ping_s": 600,  # nobody here answers a ping
    }
    with ExitStack() as stack:
        enclaves = [stack.enter_context(fake_enclave(folder / f"{number}.s")) for number in range(_ENCLAVES)]
        to = [f"r@{enclave}" for enclave in enclaves]
        running = stack.enter_context(gateway(folder / "g", to, *authority.arguments, **settings))
        for enclave in enclaves:
            stack.callback(enclave.may_read.set)
        wait_until(lambda: running.notes.count(" answers") == _ENCLAVES, "all enclaves answer")
        tls = authority.trusting(alpn=None if websocket else "enclavectl/1")
        house = FullHouse(running=running, tls=tls, websocket=websocket)
        inside = [stack.enter_context(house.enter()) for _ in range(CONNECTIONS)]
        for enclave in enclaves:
            enclave.may_read.clear()
        request = house.wrap(_REQUEST)
        for sock in inside:
            sock.setblocking(False)
        try:
            _push(inside, request)
        except OSError as exc:
            raise AssertionError(f"a session has ended: {running.log[-500:]} {running.notes[-500:]}") from exc
        yield house


def _push(inside: list[ssl.SSLSocket], request: bytes) -> None:
    """Push to all in turns, until a whole round moves nothing: what stops then is full everywhere."""
    at = dict.fromkeys(inside, 0)
    while True:
        before = sum(at.values())
        for sock in inside:
            try:
                while at[sock] < len(request):
                    at[sock] += sock.send(request[at[sock] : at[sock] + (1 << 14)])
            except ssl.SSLWantWriteError:
                continue
        if sum(at.values()) == before:
            return
