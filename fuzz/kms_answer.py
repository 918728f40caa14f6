"""Any bytes are an answer of KMS to this key, or are refused with the one NotForUsError."""

from __future__ import annotations

from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric import rsa

from enclave_payload.cms import NotForUsError, open_cms
from tests.payload.kms_answers import kms_answer

_KEY = rsa.generate_private_key(65537, 2048)
SEEDS: list[bytes] = [
    kms_answer(_KEY.public_key(), bytes(32)),
    kms_answer(_KEY.public_key(), b"short", is_primitive=True),
    b"\x30\x80" * 20 + b"\x00\x00" * 20,
    b"",
]


def one(data: bytes) -> None:
    with suppress(NotForUsError):
        assert len(open_cms(data, _KEY)) < len(data)
