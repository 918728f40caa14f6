"""Addresses as text, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.errors import UsageError
from enclavectl.net.address import (
    Address,
    HybridVsockAddress,
    StreamAddress,
    UnixAddress,
    VsockAddress,
    WebSocketAddress,
    parse_address,
    parse_host_address,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/a.sock", UnixAddress(Path("/run/a.sock"))),
        ("unix:relative", UnixAddress(Path("relative"))),
        ("unix:/with:colon", UnixAddress(Path("/with:colon"))),
        ("vsock:16:5005", VsockAddress(16, 5005)),
        ("vsock:4294967295:4294967295", VsockAddress(2**32 - 1, 2**32 - 1)),
        ("vsock:0:0", VsockAddress(0, 0)),
        ("hybrid:/run/16.vsock:5005", HybridVsockAddress(Path("/run/16.vsock"), 5005)),
        ("hybrid:a:1:2", HybridVsockAddress(Path("a:1"), 2)),
        ("tls:gateway.test:8443", StreamAddress("gateway.test", 8443, is_secure=True)),
        ("tls:[2001:db8::1]:8443", StreamAddress("2001:db8::1", 8443, is_secure=True)),
        ("tcp:127.0.0.1:1", StreamAddress("127.0.0.1", 1, is_secure=False)),
        ("tcp:[::1]:65535", StreamAddress("::1", 65535, is_secure=False)),
        ("wss://gateway.test/v1", WebSocketAddress("gateway.test", 443, "/v1", is_secure=True)),
        ("wss://10.0.0.1:8443/a/v1", WebSocketAddress("10.0.0.1", 8443, "/a/v1", is_secure=True)),
        ("wss://[2001:db8::1]/v1", WebSocketAddress("2001:db8::1", 443, "/v1", is_secure=True)),
        ("ws://localhost:8080/v1/blue", WebSocketAddress("localhost", 8080, "/v1/blue", is_secure=False)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "unix:a\0b",
        "vsock:16",
        "vsock:16:",
        "vsock:-1:5005",
        "vsock:16:5005:1",
        "vsock: 16:5005",
        "vsock:4294967296:1",
        "vsock:1:4294967296",
        "vsock:99999999999:1",
        "vsock:१६:5005",
        "VSOCK:16:5005",
        "vsock:16:5005\n",
        "hybrid:/run/16.vsock",
        "hybrid::5005",
        "hybrid:a:4294967296",
        "/run/a.sock",
        "tls:gateway.test",
        "tls:gateway.test:0",
        "tls:gateway.test:65536",
        "tls:ann@gateway.test:1",
        "tls:-gateway.test:1",
        "tls:2001:db8::1:1",
        "tls:[gateway.test]:1",
        "tls:[:::]:1",
        "tls:gäteway.test:1",
        "wss:gateway.test",
        "wss://",
        "wss://gateway.test:",
        "wss://gateway.test?token=x",
        "wss://gateway.test/v1?token=x",
        "wss://gateway.test/v1#x",
        "wss://gateway.test/v%31",
        "wss://ann:pw@gateway.test/v1",
        "https://gateway.test/v1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected wss://HOST"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("wss://Gateway.TEST", "wss://gateway.test/v1"),
        ("wss://gateway.test:443/v1", "wss://gateway.test/v1"),
        ("ws://127.0.0.1:80", "ws://127.0.0.1/v1"),
        ("tls:GATEWAY.test:0443", "tls:gateway.test:443"),
    ],
)
def test_one_address_has_one_spelling(text: str, canonical: str) -> None:
    assert str(parse_address(text)) == canonical
    assert parse_address(canonical) == parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "ws://gateway.test/v1",
        "tcp:gateway.test:1",
        "ws://10.0.0.1/v1",
        "tcp:0.0.0.0:1",
        "tcp:localhost.test:1",
    ],
)
def test_no_picture_leaves_this_machine_without_tls(text: str) -> None:
    with pytest.raises(UsageError, match="without TLS, so for this machine only") as info:
        parse_address(text)
    assert info.value.hint is not None


@pytest.mark.parametrize(
    "text",
    [
        "wss://ada:hunter2@gateway.test/v1",
        "https://ada:hunter2@gateway.test",
        "wss://gateway.test/v1?token=hunter2",
    ],
)
def test_a_secret_in_an_address_is_not_shown_again(text: str) -> None:
    with pytest.raises(UsageError) as info:
        parse_address(text)
    assert "hunter2" not in f"{info.value} {info.value.hint}"
    assert "--token-file" in str(info.value.hint)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://gateway.test", "the address of a gateway begins with wss://"),
        ("wss://gateway.test:99999", "a port is a number from 1 to 65535"),
        ("tls:gateway.test:0", "a port is a number from 1 to 65535"),
        ("wss://gateway.test:65536/v1", "a port is a number from 1 to 65535"),
        ("wss://gateway.test.:1", "for example wss://"),
        ("vsock:16:4294967296", "for example vsock:16:5005"),
    ],
)
def test_the_hint_is_about_what_was_given(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as info:
        parse_address(text)
    assert hint in str(info.value.hint)


def test_an_enclaves_own_address_is_of_its_host() -> None:
    assert parse_host_address("vsock:16:5005") == VsockAddress(16, 5005)
    for text in ("wss://gateway.test", "tls:gateway.test:1", "tcp:localhost:1"):
        with pytest.raises(UsageError, match="expected unix:PATH"):
            parse_host_address(text)
