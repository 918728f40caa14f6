from __future__ import annotations

import struct
from ipaddress import IPv6Address, ip_network

import pytest

from enclavectl.gateway.admission import ANONYMOUS
from enclavectl.gateway.identity import (
    certificate_identity,
    forwarded_address,
    is_trusted,
    proxy_header_length,
    proxy_source,
)
from enclavectl.net.carriage import WireError

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.mark.parametrize(
    ("peer", "lines", "expected"),
    [
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["evil, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
    ],
)
def test_only_what_a_trusted_proxy_says_counts(peer: str, lines: list[str], expected: str) -> None:
    assert forwarded_address(peer, lines, PROXIES) == expected


def test_what_is_no_address_is_not_trusted() -> None:
    assert not is_trusted("", PROXIES)
    assert is_trusted("fd00::1", PROXIES)


def head(command: int, family: int, length: int) -> bytes:
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack(">H", length)


def test_a_proxy_header_names_the_client() -> None:
    four = bytes([192, 0, 2, 1, 10, 0, 0, 1]) + struct.pack(">HH", 1, 2)
    assert proxy_header_length(head(1, 0x11, 12)) == 12
    assert proxy_source(head(1, 0x11, 12), four) == "192.0.2.1"
    six = IPv6Address("2001:db8::1").packed * 2 + bytes(4)
    assert proxy_source(head(1, 0x21, 36), six + b"tlv") == "2001:db8::1"
    assert proxy_source(head(0, 0, 0), b"") is None


@pytest.mark.parametrize(
    "data", [b"", b"PROXY TCP4 1.2.3", head(1, 0x11, 12)[:-1], head(1, 0x11, 5000), b"\0" * 16,
             SIGNATURE + b"\x11\x11\x00\x0c"],
)  # fmt: skip
def test_another_header_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        proxy_header_length(data)


@pytest.mark.parametrize(
    ("command", "family", "rest"), [(1, 0x11, b"x"), (1, 0x31, bytes(216)), (2, 0x11, bytes(12))]
)
def test_a_header_without_an_address_is_refused(command: int, family: int, rest: bytes) -> None:
    with pytest.raises(WireError):
        proxy_source(head(command, family, len(rest)), rest)


def test_a_certificates_first_usable_name_counts() -> None:
    fields = {"subject": ((("commonName", "Clinic One"),),), "subjectAltName": (("DNS", "clinic.example"),)}
    assert certificate_identity(b"der", fields).name == "clinic.example"
    assert certificate_identity(b"der", {"subject": ((("commonName", "clinic"),),)}).name == "clinic"
    unusable = certificate_identity(b"der", {"subject": ((("commonName", 'x"} 1\n'),),)}).name
    assert unusable is not None
    assert unusable.startswith("sha256:")
    assert certificate_identity(None, {}) is ANONYMOUS
