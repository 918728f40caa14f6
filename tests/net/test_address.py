"""Addresses as text, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.errors import UsageError
from enclavectl.net.address import Address, HybridVsockAddress, UnixAddress, VsockAddress, parse_address


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
        "tcp:localhost:1",
        "/run/a.sock",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected unix:PATH, vsock:CID:PORT or hybrid:PATH:PORT"):
        parse_address(text)
