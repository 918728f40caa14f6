"""What a client brings to a gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.errors import UsageError
from enclavectl.net.access import Access, parse_pin, read_access, read_token, show_pin
from enclavectl.net.address import parse_address

PIN = bytes(range(32))


@pytest.mark.parametrize("text", [show_pin(PIN), f"sha256:{PIN.hex().upper()}"])
def test_a_pin_in_hex(text: str) -> None:
    assert parse_pin(text) == PIN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        PIN.hex(),
        f"sha1:{PIN.hex()}",
        f"sha256:{PIN.hex()[:-2]}",
        f"sha256:{PIN.hex()}00",
        "sha256:" + "*" * 43,
    ],
)
def test_what_is_no_pin(text: str) -> None:
    with pytest.raises(UsageError, match="--tls-pin: expected sha256:"):
        parse_pin(text)


def test_a_token_may_have_white_space_around_it(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b" abc_DEF-1\r\n")
    assert read_token(tmp_path / "t") == "abc_DEF-1"


@pytest.mark.parametrize("data", [b"", b"\n", b"S3CRET S3CRET", b"S3CRET\nX: y", b"S3CRET\xff", b"S" * 5000])
def test_what_is_no_token_is_not_repeated(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(UsageError) as info:
        read_token(tmp_path / "t")
    assert "S3CRET" not in info.value.message + str(info.value.hint)


@pytest.mark.parametrize(
    ("address", "access"),
    [
        ("unix:/run/a", Access(token="t")),
        ("tls:gateway.test:1", Access(token="t")),
        ("vsock:16:5005", Access(ca_pem=b"")),
        ("ws://localhost/v1", Access(pin=PIN)),
        ("tcp:localhost:1", Access(client_certificate=Path("c"))),
    ],
)
def test_what_an_address_has_no_use_for_is_refused(address: str, access: Access) -> None:
    with pytest.raises(UsageError):
        access.require_use(parse_address(address))


def test_a_key_alone_is_refused() -> None:
    with pytest.raises(UsageError, match="expected --client-cert as well"):
        read_access(client_key=Path("k"))
