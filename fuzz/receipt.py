"""Any bytes are a receipt or a statement, in its one encoding, or are refused with ReceiptError.

Bytes also go to the reader of the claims, which the envelope would otherwise keep them from.
"""

from __future__ import annotations

from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enclave_payload.receipt import (
    PROFILE,
    Claim,
    answer_statement,
    request_statement,
    sign_claims,
)
from enclavectl.evidence import ReceiptError, parse_answer_statement, parse_receipt, parse_request_statement
from enclavectl.evidence.air import check_signature
from enclavectl.protocol.cbor import encode
from enclavectl.protocol.receipts import PROTECTED, TAG

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
_PUBLIC_KEY = _KEY.public_key().public_bytes_raw()
_GENUINE = sign_claims(
    _KEY,
    {
        Claim.ISS: "fuzz",
        Claim.IAT: 1_800_000_000,
        Claim.CTI: b"c" * 16,
        Claim.EAT_NONCE: b"n" * 32,
        Claim.EAT_PROFILE: PROFILE,
        Claim.MODEL_ID: "m",
        Claim.MODEL_VERSION: "1",
        Claim.MODEL_HASH: b"h" * 32,
        Claim.REQUEST_HASH: bytes(32),
        Claim.RESPONSE_HASH: bytes(32),
        Claim.ATTESTATION_DOC_HASH: bytes(32),
        Claim.ENCLAVE_MEASUREMENTS: {
            **{f"pcr{index}": bytes([index]) * 48 for index in (0, 1, 2, 8)},
            "measurement_type": "nitro-pcr",
        },
        Claim.POLICY_VERSION: "p",
        Claim.SEQUENCE_NUMBER: 1,
        Claim.EXECUTION_TIME_MS: 24,
        Claim.MEMORY_PEAK_MB: 2**33,
        Claim.SECURITY_MODE: "evaluation",
        Claim.MODEL_HASH_SCHEME: "sha256-single",
    },
)
_PAYLOAD = parse_receipt(_GENUINE).payload

SEEDS: list[bytes] = [
    _GENUINE,
    _PAYLOAD,
    request_statement(bytes(32), bytes(32), "image/png"),
    answer_statement(bytes(32), b"outcome"),
    b"",
]


def one(data: bytes) -> None:
    with suppress(ReceiptError):
        receipt = parse_receipt(data)
        check_signature(receipt, _PUBLIC_KEY)
        assert data == _GENUINE
    with suppress(ReceiptError):
        signed = TAG + encode([PROTECTED, {}, data, _KEY.sign(data)])
        receipt = parse_receipt(signed)
        assert (receipt.raw, receipt.payload) == (signed, data)
    with suppress(ReceiptError):
        asked = parse_request_statement(data)
        assert request_statement(asked.salt, asked.picture_sha256, asked.media_type) == data
    with suppress(ReceiptError):
        answered = parse_answer_statement(data)
        assert encode({"salt": answered.salt, "outcome": answered.outcome}) == data
