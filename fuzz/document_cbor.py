"""Invariant: any bytes are refused with CborError, or mean to cbor2 exactly what they mean to us."""

from __future__ import annotations

import cbor2

from enclavectl.attestation.cbor import CborError, decode

SEEDS: list[bytes] = [
    b"",
    cbor2.dumps({"a": [1, -2, True, None, b"\0", "ü"], 7: {}}),
    cbor2.dumps([0, 23, 24, 255, 256, 65535, 65536, 2**32, 2**64 - 1, -1, -(2**64)]),
    bytes.fromhex("bf6161 9f01ff 6162 5f41004101ff ff".replace(" ", "")),
    bytes.fromhex("7f61616162ff"),
    bytes.fromhex("d28443a1012640"),
    bytes.fromhex("a200f400f5"),
    bytes.fromhex("a200f4f4f5"),
    bytes.fromhex("9bffffffffffffffff"),
    bytes.fromhex("fb3ff0000000000000"),
    b"\x81" * 40,
]


def one(data: bytes) -> None:
    try:
        value = decode(data)
    except CborError:
        return
    # repr and not ==: 1, True and 1.0 are equal.
    assert repr(cbor2.loads(data)) == repr(value)
    assert repr(decode(cbor2.dumps(value))) == repr(value)
