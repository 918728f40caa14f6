"""Receipts that differ from the example in one chosen place, encoded by another library and signed again."""

from collections.abc import Mapping

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enclavectl.protocol.receipts import Claim
from tests.evidence import example

PROTECTED = bytes.fromhex("a2012703183d")


def example_claims() -> dict[object, object]:
    payload = cbor2.loads(cbor2.loads(example.RECEIPT).value[2])
    return {**payload, -65543: dict(payload[-65543])}


def with_claims(changes: Mapping[Claim, object] | None = None, *, without: Claim | None = None) -> bytes:
    """The example with other claims, validly encoded and signed."""
    claims = example_claims() | dict(changes or {})
    claims = {key: value for key, value in claims.items() if key != without}
    return with_payload(cbor2.dumps({int(str(key)): value for key, value in claims.items()}, canonical=True))


def with_payload(payload: bytes, key: Ed25519PrivateKey = example.KEY) -> bytes:
    signature = key.sign(cbor2.dumps(["Signature1", PROTECTED, b"", payload]))
    return envelope(payload=payload, signature=signature)


def envelope(
    *,
    protected: object = PROTECTED,
    unprotected: object = None,
    payload: object = None,
    signature: object = None,
) -> bytes:
    """The envelope of the example with other parts; not signed again."""
    parts = cbor2.loads(example.RECEIPT).value
    return b"\xd2" + cbor2.dumps(
        [
            protected,
            {} if unprotected is None else unprotected,
            parts[2] if payload is None else payload,
            parts[3] if signature is None else signature,
        ]
    )


def measured(**changes: object) -> dict[Claim, object]:
    """A change to the measurements of the example; None leaves one out."""
    registers = example_claims()[-65543]
    assert isinstance(registers, dict)
    both = registers | changes
    return {Claim.ENCLAVE_MEASUREMENTS: {name: value for name, value in both.items() if value is not None}}
