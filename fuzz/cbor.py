"""Invariant: any bytes are refused with CborError, or mean the same to cbor2 and to the strict decoder.

And what is encoded again is deterministic.
"""

from __future__ import annotations

from contextlib import suppress

import cbor2

from enclave_payload.cbor import CborError, decode, encode
from enclavectl.attestation import cbor as strict
from enclavectl.protocol import cbor as client

SEEDS: list[bytes] = [
    b"",
    cbor2.dumps({"a": [1, -2, True, None, b"\0", "ü"], 7: {}}),
    cbor2.dumps([0, 23, 24, 255, 256, 65535, 65536, 2**32, 2**64 - 1, -1, -(2**64)]),
    cbor2.dumps({"Attestation": {"document": bytes(30)}}),
    bytes.fromhex("bf616101ff"),
    bytes.fromhex("a200f400f5"),
    bytes.fromhex("9bffffffffffffffff"),
    bytes.fromhex("5bffffffffffffffff"),
    bytes.fromhex("fb3ff0000000000000"),
    b"\x81" * 40,
]


def one(data: bytes) -> None:
    is_read = False
    with suppress(CborError):
        assert encode(client.decode(data, max_bytes=4096)) == data
        is_read = True
    try:
        value = decode(data, max_bytes=4096)
    except CborError:
        return
    # The client takes all that the payload takes, but in its one encoding only.
    assert is_read == (encode(value) == data)
    # repr and not ==: 1, True and 1.0 are equal.
    assert repr(cbor2.loads(data)) == repr(value)
    assert repr(strict.decode(data)) == repr(value)
    encoded = encode(value)
    assert len(encoded) <= len(data)
    assert repr(cbor2.loads(encoded)) == repr(decode(encoded, max_bytes=4096))
    assert encode(decode(encoded, max_bytes=4096)) == encoded
