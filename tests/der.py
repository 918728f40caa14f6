"""Surgery on DER that no certificate builder would do."""

from __future__ import annotations

from collections.abc import Callable


def sequence(body: bytes) -> bytes:
    assert len(body) > 127
    head = b"\x30\x81" + len(body).to_bytes(1) if len(body) < 256 else b"\x30\x82" + len(body).to_bytes(2)
    return head + body


def edit_signed_part(der: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    """``der`` with other bytes in its signed part, all lengths right."""
    size = 8 + int.from_bytes(der[6:8])
    assert der[4:6] == b"\x30\x82"
    return sequence(sequence(edit(der[8:size])) + der[size:])


def null_parameters(der: bytes) -> bytes:
    """The outer AlgorithmIdentifier with the NULL that RFC 5758 forbids."""
    tbs, _, signature = der[4:].rpartition(bytes.fromhex("300a06082a8648ce3d040303"))
    return sequence(tbs + bytes.fromhex("300c06082a8648ce3d0403030500") + signature)


def without_version(der: bytes) -> bytes:
    """Version 1, which is the default and so left out, but with extensions."""
    return edit_signed_part(der, lambda inner: inner.removeprefix(b"\xa0\x03\x02\x01\x02"))


def compressed_point(der: bytes) -> bytes:
    """The same key, as a compressed point."""
    start = bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200")

    def edit(inner: bytes) -> bytes:
        at = inner.index(start)
        point = inner[at + len(start) : at + 120]
        short = bytes((2 + point[-1] % 2,)) + point[1:49]
        head = bytes.fromhex("3046301006072a8648ce3d020106052b81040022033200")
        return inner[:at] + head + short + inner[at + 120 :]

    return edit_signed_part(der, edit)


def long_signature(der: bytes) -> bytes:
    tbs, algorithm, _ = der[4:].rpartition(bytes.fromhex("300a06082a8648ce3d040303"))
    return sequence(tbs + algorithm + bytes.fromhex("0382012d00") + b"\x30" * 300)
