"""A verified session through every kind of address, with a real enclave behind real servers."""

from __future__ import annotations

import base64
import socket
import ssl
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.http11 import Response
from websockets.sync.server import ServerConnection

from enclave_payload.contents import Outcome
from enclave_payload.media import MediaType
from enclavectl.client.batch import classify
from enclavectl.client.pictures import Picture
from enclavectl.client.session import Client
from enclavectl.errors import (
    EnclavectlError,
    EnclaveLost,
    NetworkError,
    PeerProtocolError,
    StateError,
    UsageError,
)
from enclavectl.net.access import NO_ACCESS, Access, parse_pin
from enclavectl.net.address import parse_address
from tests.in_process import InProcess, gray, gray_png
from tests.in_time import in_time
from tests.net.certificates import Authority, server_context
from tests.net.peers import relay_to, start_peer, start_proxy, start_web_server, start_websocket_relay


def connect(enclave: InProcess, address: str, access: Access = NO_ACCESS, timeout_s: float = 20) -> Client:
    return Client.connect(parse_address(address), enclave.expectation, timeout_s=timeout_s, access=access)


def light(enclave: InProcess, address: str, access: Access = NO_ACCESS) -> list[float]:
    """What the enclave says of three pictures, one of them larger than a WebSocket message."""
    noise = Picture("n.png", MediaType.PNG, gray_png(255) + bytes(300_000))
    with connect(enclave, address, access) as client:
        replies = sorted(
            classify(client, [gray(0), gray(51), noise], timeout_s=20), key=lambda reply: reply.index
        )
    found = []
    for reply in replies:
        assert isinstance(reply.outcome, Outcome), reply.error
        assert reply.outcome.probabilities_ppb is not None
        found.append(reply.outcome.probabilities_ppb["light"] / 1e9)
    return found


EXPECTED = [0.0, 0.2, 1.0]


def refused(
    enclave: InProcess, address: str, access: Access = NO_ACCESS, timeout_s: float = 10
) -> EnclavectlError:
    with pytest.raises(EnclavectlError) as info:
        connect(enclave, address, access, timeout_s).__exit__(None, None, None)
    assert info.value.hint
    assert len(info.value.message) < 400
    return info.value


def test_over_tcp_on_this_machine(enclave: InProcess) -> None:
    with start_peer(relay_to(enclave.address)) as peer:
        assert light(enclave, f"tcp:127.0.0.1:{peer.port}") == EXPECTED
        assert light(enclave, f"tcp:localhost:{peer.port}") == EXPECTED


def test_over_tls(enclave: InProcess, authority: Authority) -> None:
    context = server_context(authority.issue("localhost"), alpn="enclavectl/1")
    access = Access(ca_pem=authority.file.read_bytes())
    with start_peer(relay_to(enclave.address), context) as peer:
        assert light(enclave, f"tls:localhost:{peer.port}", access) == EXPECTED


def test_over_a_websocket_on_this_machine(enclave: InProcess) -> None:
    with start_websocket_relay(enclave.address) as peer:
        assert light(enclave, f"ws://127.0.0.1:{peer.port}") == EXPECTED
    assert peer.seen == ["/v1 -"]


def test_over_a_websocket_with_tls_and_a_token(enclave: InProcess, authority: Authority) -> None:
    context = server_context(authority.issue("localhost", "127.0.0.1"))
    access = Access(ca_pem=authority.file.read_bytes(), token="abc.DEF-_~+/==")
    with start_websocket_relay(enclave.address, context) as peer:
        assert light(enclave, f"wss://localhost:{peer.port}/v1/blue", access) == EXPECTED
        assert light(enclave, f"wss://127.0.0.1:{peer.port}", access) == EXPECTED
    assert peer.seen == ["/v1/blue Bearer abc.DEF-_~+/==", "/v1 Bearer abc.DEF-_~+/=="]


def test_a_pinned_key_needs_no_issuer_and_no_name(enclave: InProcess, authority: Authority) -> None:
    pair = authority.issue("elsewhere.test", ends_h=-0.5)
    digest = bytes.fromhex(pair.pin.removeprefix("sha256:"))
    in_base64 = "sha256:" + base64.b64encode(digest).decode().rstrip("=")
    with start_websocket_relay(enclave.address, server_context(pair)) as peer:
        for text in (pair.pin, in_base64):
            assert light(enclave, f"wss://localhost:{peer.port}", Access(pin=parse_pin(text))) == EXPECTED
        error = refused(enclave, f"wss://localhost:{peer.port}", Access(pin=bytes(32)))
    assert (error.code, error.exit_code) == ("tls-pin", 3)
    assert pair.pin in error.message


def test_a_pin_and_a_ca_are_both_checked(enclave: InProcess, authority: Authority) -> None:
    pair = authority.issue("elsewhere.test")
    access = Access(pin=parse_pin(pair.pin), ca_pem=authority.file.read_bytes())
    with start_websocket_relay(enclave.address, server_context(pair)) as peer:
        assert refused(enclave, f"wss://localhost:{peer.port}", access).code == "tls-foreign"


@pytest.mark.parametrize("scheme", ["wss://localhost:{}", "tls:localhost:{}"])
def test_a_clients_certificate(enclave: InProcess, authority: Authority, tmp_path: Path, scheme: str) -> None:
    client = authority.issue("hospital")
    context = server_context(authority.issue("localhost"), alpn="enclavectl/1", client_ca=authority.file)
    if scheme.startswith("wss"):
        context.set_alpn_protocols(["http/1.1"])
    ca_pem = authority.file.read_bytes()
    start = (
        start_websocket_relay(enclave.address, context)
        if scheme.startswith("wss")
        else start_peer(relay_to(enclave.address), context)
    )
    with start as peer:
        address = scheme.format(peer.port)
        access = Access(ca_pem=ca_pem, client_certificate=client.certificate, client_key=client.key)
        assert light(enclave, address, access) == EXPECTED
        error = refused(enclave, address, Access(ca_pem=ca_pem))
    # The alert, unless the reset behind it comes first: the peer hangs up on a request that it did not read.
    assert (error.code, error.exit_code) in {("client-certificate", 2), ("tls", 5)}
    assert "--client-cert" in str(error.hint)


@pytest.mark.parametrize(
    ("name", "hours", "code", "found"),
    [
        ("localhost", (-2, -1), "tls-expired", "has expired by this machine's clock"),
        ("localhost", (1, 2), "tls-expired", "is not valid yet by this machine's clock"),
        ("elsewhere.test", (-1, 1), "tls-foreign", "for another host name"),
    ],
)
def test_a_wrong_certificate(
    enclave: InProcess,
    authority: Authority,
    name: str,
    hours: tuple[float, float],
    code: str,
    found: str,
) -> None:
    context = server_context(authority.issue(name, begins_h=hours[0], ends_h=hours[1]))
    with start_websocket_relay(enclave.address, context) as peer:
        error = refused(
            enclave, f"wss://localhost:{peer.port}", Access(ca_pem=authority.file.read_bytes(), token="t")
        )
        assert (error.code, error.exit_code) == (code, 3)
        assert found in error.message
        assert ("set the clock" in (error.hint or "")) is (code == "tls-expired")
    assert peer.seen == []


def test_an_issuer_that_nobody_knows(enclave: InProcess, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other CA")
    with start_websocket_relay(enclave.address, server_context(authority.issue("localhost"))) as peer:
        for access in (NO_ACCESS, Access(ca_pem=other.file.read_bytes())):
            error = refused(enclave, f"wss://localhost:{peer.port}", access)
            assert error.code == "tls-issuer"
            assert error.hint is not None
            assert "--ca FILE" in error.hint


def test_tls_of_an_old_version(enclave: InProcess, authority: Authority) -> None:
    context = server_context(authority.issue("localhost"), maximum=ssl.TLSVersion.TLSv1_2)
    with start_websocket_relay(enclave.address, context) as peer:
        error = refused(enclave, f"wss://localhost:{peer.port}", Access(ca_pem=authority.file.read_bytes()))
    assert error.code == "tls"
    assert "expected TLS 1.3" in error.message


def test_no_tls_where_tls_is_expected(enclave: InProcess) -> None:
    def answer(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with start_peer(answer) as peer:
        assert refused(enclave, f"wss://localhost:{peer.port}").code == "tls"


def test_a_web_site_where_frames_over_tls_are_expected(enclave: InProcess, authority: Authority) -> None:
    ca_pem = authority.file.read_bytes()
    for alpn in ("http/1.1", None):
        context = server_context(authority.issue("localhost"), alpn=alpn)
        with start_web_server(b"HTTP/1.1 400 Bad Request\r\n\r\n", context) as peer:
            error = refused(enclave, f"tls:localhost:{peer.port}", Access(ca_pem=ca_pem))
            assert (error.code, type(error)) == ("not-a-gateway", NetworkError)


HTML = b"<!DOCTYPE html><title>Guest Wi-Fi</title>"
OF_A_GATEWAY = b"there is no release blue here; there is 0123456789abcdef, fedcba9876543210\n"


def response(status: bytes, body: bytes = b"", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


@pytest.mark.parametrize(
    ("answer", "code", "exit_code", "found"),
    [
        (response(b"200 OK", HTML, b"Content-Type: text/html"), "web-page", 3, "web page in place"),
        (
            response(b"302 Found", b"", b"Location: https://login.hotel.test/?x=\x1b[31m"),
            "web-page",
            3,
            "redirect to https://login.hotel.test/?x=\\x1b[31m",
        ),
        (response(b"511 Network Authentication Required", HTML), "web-page", 3, "a login page"),
        (response(b"404 Not Found", HTML, b"Content-Type: text/html"), "not-a-gateway", 3, "status 404"),
        (response(b"426 Upgrade Required", b"x", b"Content-Type: text/plain"), "not-a-gateway", 3, "426"),
        (response(b"404 Not Found", b"404 page not found"), "not-a-gateway", 3, "nothing at this path"),
        (
            response(b"404 Not Found", OF_A_GATEWAY, b"Content-Type: text/plain"),
            "no-such-release",
            6,
            "expected the release blue, found that the gateway has 0123456789abcdef, fedcba9876543210",
        ),
        (response(b"401 Unauthorized"), "token-missing", 2, "found neither"),
        (response(b"403 Forbidden"), "token-missing", 2, "found neither"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not-a-gateway", 3, "which is not HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "not-a-gateway", 3, "breaks RFC 6455"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000, "not-a-gateway", 3, "a head of more than"),
    ],
)
def test_what_answers_is_no_gateway(
    enclave: InProcess, answer: bytes, code: str, exit_code: int, found: str
) -> None:
    with start_web_server(answer) as peer:
        error = refused(enclave, f"ws://127.0.0.1:{peer.port}/v1/blue")
    assert (error.code, error.exit_code) == (code, exit_code), error.message
    assert found in error.message


def test_a_refused_token_is_not_repeated_in_the_message(enclave: InProcess) -> None:
    with start_web_server(response(b"401 Unauthorized")) as peer:
        error = refused(enclave, f"ws://127.0.0.1:{peer.port}", Access(token="S3CRET"))
    assert (error.code, error.exit_code) == ("token-refused", 2)
    assert "S3CRET" not in error.message + str(error.hint)
    assert "S3CRET" not in repr(Access(token="S3CRET"))


def test_a_websocket_server_of_something_else(enclave: InProcess) -> None:
    with start_websocket_relay(enclave.address, subprotocol="chat") as peer:
        error = refused(enclave, f"ws://127.0.0.1:{peer.port}")
    assert error.code == "not-a-gateway"


def test_nothing_listens_and_no_such_host(enclave: InProcess) -> None:
    with start_peer(lambda _: None) as peer:
        port = peer.port
    error = refused(enclave, f"ws://127.0.0.1:{port}")
    assert (error.code, type(error), error.exit_code) == ("not-listening", StateError, 6)
    error = refused(enclave, "wss://no-such-host.invalid/v1")
    assert error.code == "no-such-host"


@pytest.mark.parametrize("scheme", ["wss://localhost:{}", "tls:localhost:{}", "ws://localhost:{}"])
def test_who_says_nothing_is_given_up_in_time(enclave: InProcess, scheme: str) -> None:
    def stay_silent(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    with start_peer(stay_silent) as peer, in_time(0.5):
        error = refused(enclave, scheme.format(peer.port), timeout_s=0.5)
    assert isinstance(error, EnclaveLost)


def test_through_a_proxy(enclave: InProcess, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(ca_pem=authority.file.read_bytes(), token="t")
    context = server_context(authority.issue("gateway.test"))
    framed = server_context(authority.issue("gateway.test"), alpn="enclavectl/1")
    with (
        start_websocket_relay(enclave.address, context) as web,
        start_peer(relay_to(enclave.address), framed) as raw,
        start_proxy({"gateway.test:443": web.port, "gateway.test:8443": raw.port}) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        assert light(enclave, "wss://gateway.test/v1", access) == EXPECTED
        no_token = Access(ca_pem=access.ca_pem)
        assert light(enclave, "tls:gateway.test:8443", no_token) == EXPECTED
        assert proxy.seen == ["CONNECT gateway.test:443 HTTP/1.1", "CONNECT gateway.test:8443 HTTP/1.1"]
        monkeypatch.setenv("no_proxy", "gateway.test")
        assert refused(enclave, "wss://gateway.test/v1", access).code == "no-such-host"
        assert len(proxy.seen) == 2


def test_a_proxy_that_wants_a_password(
    enclave: InProcess, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = Access(ca_pem=authority.file.read_bytes())
    context = server_context(authority.issue("gateway.test"))
    credentials = base64.b64encode(b"ann:p@ss").decode()
    with (
        start_websocket_relay(enclave.address, context) as web,
        start_proxy({"gateway.test:443": web.port}, credentials=credentials) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        error = refused(enclave, "wss://gateway.test/v1", access)
        assert (error.code, error.exit_code) == ("proxy-password", 3)
        assert "(407)" in error.message
        monkeypatch.setenv("https_proxy", f"http://ann:WRONG@127.0.0.1:{proxy.port}")
        error = refused(enclave, "wss://gateway.test/v1", access)
        assert "WRONG" not in error.message + str(error.hint)
        monkeypatch.setenv("https_proxy", f"http://ann:p%40ss@127.0.0.1:{proxy.port}")
        assert light(enclave, "wss://gateway.test/v1", access) == EXPECTED


def test_a_proxy_that_does_not_reach_it_or_is_none(
    enclave: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_proxy({}) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        error = refused(enclave, "wss://gateway.test/v1")
        assert (error.code, "502" in error.message) == ("proxy", True)
    with start_web_server(b"220 mail.test ESMTP\r\n") as other:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{other.port}")
        assert refused(enclave, "wss://gateway.test/v1").code == "proxy"
    monkeypatch.setenv("https_proxy", "socks5://ann:S3CRET@127.0.0.1:1080")
    error = refused(enclave, "wss://gateway.test/v1")
    assert (type(error), error.code) == (UsageError, "proxy")
    assert "S3CRET" not in error.message


def test_a_gateway_without_room_is_asked_again_and_verified_anew(enclave: InProcess) -> None:
    """The refusals come as a close, before the upgrade, and as a close; the fourth connection is served."""
    turn = iter(["1012", "503", "1013", "serve"])
    now = ""

    def judge(connection: ServerConnection, request: object) -> Response | None:
        nonlocal now
        now = next(turn)
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "no room\n") if now == "503" else None

    def on_open(connection: ServerConnection) -> bool:
        if now == "serve":
            return True
        connection.close(int(now), "")
        return False

    with start_websocket_relay(enclave.address, judge=judge, on_open=on_open) as peer:
        assert light(enclave, f"ws://127.0.0.1:{peer.port}") == EXPECTED
        assert peer.connections == 4


def test_three_new_connections_and_no_more(enclave: InProcess) -> None:
    with start_web_server(response(b"503 Service Unavailable", b"no room\n")) as peer:
        error = refused(enclave, f"ws://127.0.0.1:{peer.port}", timeout_s=30)
        assert (error.code, error.exit_code, peer.connections) == ("gateway-busy", 5, 4)


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"404 Not Found", b"200 OK"])
def test_what_will_not_pass_is_not_tried_again(enclave: InProcess, status: bytes) -> None:
    with start_web_server(response(status)) as peer:
        refused(enclave, f"ws://127.0.0.1:{peer.port}")
        assert peer.connections == 1


def test_text_messages_and_pings_from_the_gateway(enclave: InProcess) -> None:
    def with_pings(connection: ServerConnection) -> bool:
        for _ in range(50):
            connection.ping()
        return True

    def with_text(connection: ServerConnection) -> bool:
        connection.send("hello")
        return False

    with start_websocket_relay(enclave.address, on_open=with_pings) as peer:
        assert light(enclave, f"ws://127.0.0.1:{peer.port}") == EXPECTED
    with start_websocket_relay(enclave.address, on_open=with_text) as peer:
        error = refused(enclave, f"ws://127.0.0.1:{peer.port}")
        assert isinstance(error, PeerProtocolError)
        assert error.message.endswith("found text")


def test_a_proxy_that_does_not_listen_is_called_a_proxy(
    enclave: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_peer(lambda _: None) as peer:
        port = peer.port
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    error = refused(enclave, "wss://gateway.example/v1")
    assert error.code == "not-listening"
    assert f"no proxy listens at 127.0.0.1:{port}" in error.message
    assert "https_proxy" in str(error.hint)
