"""Seal a request to an enclave's attested key, and open the answer with the request's reply key."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave_payload.messages import AnswerKind
from enclave_payload.seal import (
    SUITES,
    SealError,
    SuiteId,
    answer_data,
    answer_nonce,
    pad,
    request_info,
    unpad,
)
from enclave_payload.wire import Buffer
from enclavectl.protocol.padding import padme

__all__ = ["SealError", "SuiteId", "open_answer", "request_info", "seal_request"]

_MLKEM768_PUBLIC_BYTES = 1184  # FIPS 203, table 3


def seal_request(suite: SuiteId, public_key: bytes, content: Sequence[Buffer], info: bytes) -> bytes:
    """Join, pad and seal the parts of the content; return HPKE's ``enc || ciphertext``.

    Raises:
        SealError: ``public_key`` is not a key of this suite.
    """
    padded = pad(padme(4 + sum(map(len, content))), *content)
    try:
        # Both calls are in the try: a point of small order fails only at the key agreement.
        return SUITES[suite].encrypt(padded, _load_public_key(suite, public_key), info)
    except ValueError as exc:
        raise SealError from exc


# Loading a key takes half as long as sealing to it, so it is cached for the session's next picture. A client
# seldom talks to more than a few enclaves.
@lru_cache(maxsize=4)
def _load_public_key(suite: SuiteId, raw: bytes) -> hpke.MLKEM768X25519PublicKey | x25519.X25519PublicKey:
    if suite is SuiteId.X25519:
        return x25519.X25519PublicKey.from_public_bytes(raw)
    return hpke.MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM768_PUBLIC_BYTES]),
        x25519.X25519PublicKey.from_public_bytes(raw[_MLKEM768_PUBLIC_BYTES:]),
    )


def open_answer(reply_key: bytes, request_id: bytes, kind: AnswerKind, ciphertext: bytes) -> bytes:
    """Open the output of ``enclave_payload.seal.seal_answer``.

    Raises:
        SealError: wrong key, request or kind, changed bytes, or wrong padding.
    """
    data = answer_data(request_id, kind)
    try:
        return bytes(unpad(AESGCM(reply_key).decrypt(answer_nonce(kind), ciphertext, data)))
    except InvalidTag as exc:
        raise SealError from exc
