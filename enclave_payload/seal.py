"""Sealing: HPKE to the enclave's attested key for requests, AES-256-GCM under the reply key for answers.

HPKE is RFC 9180 in base mode, from ``cryptography.hazmat.primitives.hpke``. Its one-shot form takes no
associated data, so everything a request must be bound to goes into ``info``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave_payload.messages import ANSWER_PLAINTEXT_BYTES, AnswerKind
from enclave_payload.wire import Buffer

REPLY_KEY_BYTES = 32


class SealError(Exception):
    """Something could not be opened. Says no more, on purpose."""


class SuiteId(IntEnum):
    """The cipher suites of protocol version 1; the default comes first.

    Both use HKDF-SHA256 and AES-256-GCM. 1 is the ML-KEM-768 + X25519 hybrid, because a picture
    recorded today must stay private when large quantum computers exist.
    """

    MLKEM768_X25519 = 1
    X25519 = 2


_KEMS = {SuiteId.MLKEM768_X25519: hpke.KEM.MLKEM768_X25519, SuiteId.X25519: hpke.KEM.X25519}
SUITES = {suite: hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM) for suite, kem in _KEMS.items()}

_PrivateKey = hpke.MLKEM768X25519PrivateKey | x25519.X25519PrivateKey


@dataclass(frozen=True, slots=True)
class EnclaveKeys:
    """One key pair a suite: born at boot, in memory only, never serialized.

    ``public`` maps the suite to the raw public key: 1,216 bytes (ML-KEM-768, then X25519) and 32 bytes.
    """

    public: Mapping[SuiteId, bytes]
    _private: Mapping[SuiteId, _PrivateKey]

    def open(self, suite: int, ciphertext: Buffer, info: bytes) -> memoryview:
        """Open a sealed request: a view of fresh memory, without the padding.

        Raises:
            SealError: an unknown suite, another key, another session, changed bytes, or false padding.
        """
        try:
            known = SuiteId(suite)
            padded = SUITES[known].decrypt(ciphertext, self._private[known], info)
        except (InvalidTag, ValueError) as exc:
            raise SealError from exc
        return unpad(padded)


def generate_keys() -> EnclaveKeys:
    """Make fresh keys from the kernel's random pool, which ``entropy.ensure_seeded`` has filled."""
    return combine_keys(
        mlkem.MLKEM768PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(),
    )


def combine_keys(
    mlkem_part: mlkem.MLKEM768PrivateKey,
    x25519_part: x25519.X25519PrivateKey,
    classical: x25519.X25519PrivateKey,
) -> EnclaveKeys:
    """Combine the enclave's keys: two parts for the hybrid suite, and another one for the classical suite."""
    # The combined key has no serialization of its own, so the wire carries its two raw parts.
    hybrid_public = mlkem_part.public_key().public_bytes_raw() + x25519_part.public_key().public_bytes_raw()
    return EnclaveKeys(
        public={
            SuiteId.MLKEM768_X25519: hybrid_public,
            SuiteId.X25519: classical.public_key().public_bytes_raw(),
        },
        _private={
            SuiteId.MLKEM768_X25519: hpke.MLKEM768X25519PrivateKey(mlkem_part, x25519_part),
            SuiteId.X25519: classical,
        },
    )


def request_info(suite: int, request_id: bytes, transcript: bytes) -> bytes:
    """HPKE's ``info``: protocol version, role, suite, request and the session's transcript hash."""
    return b"enclavectl request v1" + suite.to_bytes(2, "big") + request_id + transcript


def seal_answer(reply_key: bytes, request_id: bytes, kind: AnswerKind, content: bytes) -> bytes:
    """Seal ``content`` under the reply key to ``ANSWER_CIPHERTEXT_BYTES``, always.

    A reply key is fresh for each request and seals at most one answer of each kind, so the kind can be
    the nonce. ``content`` has at most ``ANSWER_PLAINTEXT_BYTES - 4`` bytes.
    """
    padded = pad(ANSWER_PLAINTEXT_BYTES, content)
    return AESGCM(reply_key).encrypt(answer_nonce(kind), padded, answer_data(request_id, kind))


def answer_nonce(kind: AnswerKind) -> bytes:
    """Return the GCM nonce of a request's answer of this kind, 12 bytes."""
    return bytes(11) + bytes([kind])


def answer_data(request_id: bytes, kind: AnswerKind) -> bytes:
    """Return an answer's associated data: what it answers, and as what."""
    return b"enclavectl answer v1" + request_id + bytes([kind])


def pad(size: int, *content: Buffer) -> bytes:
    """Write ``u32 length | content | zeros``, ``size`` bytes in all; the parts of the content are joined.

    Raises:
        ValueError: the content does not fit; a bug of the caller.
    """
    length = sum(map(len, content))
    if length + 4 > size:
        raise ValueError(f"{length} bytes do not fit into {size} with their length")
    return b"".join((length.to_bytes(4, "big"), *content, bytes(size - 4 - length)))


def unpad(padded: bytes) -> memoryview:
    """Return what ``pad`` was given. Every padding byte must be zero, so that nothing hides in them.

    Raises:
        SealError: the length is false or a padding byte is not zero.
    """
    end = 4 + int.from_bytes(padded[:4], "big")
    if len(padded) < 4 or end > len(padded) or padded.count(0, end) != len(padded) - end:
        raise SealError
    return memoryview(padded)[4:end]
