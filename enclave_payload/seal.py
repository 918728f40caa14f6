"""Sealing: HPKE to the enclave's attested key for requests, AES-256-GCM under the reply key for answers.

HPKE is RFC 9180 in base mode, from ``cryptography.hazmat.primitives.hpke``. Its one-shot form takes no
associated data, so everything a request must be bound to goes into ``info``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave_payload.messages import ANSWER_PLAINTEXT_BYTES, AnswerKind
from enclave_payload.wire import Buffer

REPLY_KEY_BYTES = 32
_MLKEM768_PUBLIC_BYTES = 1184


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
_SUITES = {
    suite: hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM) for suite, kem in _KEMS.items()
}


_PublicKey = hpke.MLKEM768X25519PublicKey | x25519.X25519PublicKey
_PrivateKey = hpke.MLKEM768X25519PrivateKey | x25519.X25519PrivateKey


@dataclass(frozen=True, slots=True)
class EnclaveKeys:
    """One key pair a suite: born at boot, in memory only, never serialized.

    ``public`` maps the suite to the raw public key: 1,216 bytes (ML-KEM-768, then X25519) and 32 bytes.
    """

    public: Mapping[SuiteId, bytes]
    _private: Mapping[SuiteId, _PrivateKey]

    def open(self, suite: int, ciphertext: Buffer, info: bytes) -> memoryview:
        """The content of a sealed request: a view of fresh memory, without the padding.

        Raises:
            SealError: an unknown suite, another key, another session, changed bytes, or false padding.
        """
        if suite not in set(SuiteId):
            raise SealError
        try:
            padded = _SUITES[SuiteId(suite)].decrypt(ciphertext, self._private[SuiteId(suite)], info)
        except (InvalidTag, ValueError) as exc:
            raise SealError from exc
        return unpad(padded)


def generate_keys() -> EnclaveKeys:
    """Fresh keys from the kernel's random pool, which ``entropy.ensure_seeded`` has filled."""
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
    """The enclave's keys: two parts for the hybrid suite and, never the same, one for the classical one."""
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


def seal_request(suite: SuiteId, public_key: bytes, content: Sequence[bytes], info: bytes) -> bytes:
    """HPKE ``enc || ciphertext`` of the padded content, whose parts are joined: the ``Sealed`` ciphertext.

    Raises:
        SealError: ``public_key`` is not a key of this suite.
    """
    padded = pad(padme(4 + sum(map(len, content))), *content)
    try:
        # Both inside the try: a point of small order is found out only when the secret is agreed.
        return _SUITES[suite].encrypt(padded, _load_public_key(suite, public_key), info)
    except ValueError as exc:
        raise SealError from exc


@lru_cache(maxsize=4)
def _load_public_key(suite: SuiteId, raw: bytes) -> _PublicKey:
    # Kept for the session's next picture: loading a key takes half as long as sealing to it.
    if suite is SuiteId.X25519:
        return x25519.X25519PublicKey.from_public_bytes(raw)
    return hpke.MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM768_PUBLIC_BYTES]),
        x25519.X25519PublicKey.from_public_bytes(raw[_MLKEM768_PUBLIC_BYTES:]),
    )


def request_info(suite: int, request_id: bytes, transcript: bytes) -> bytes:
    """HPKE's ``info``: protocol version, role, suite, request and the session's transcript hash."""
    return b"enclavectl request v1" + suite.to_bytes(2, "big") + request_id + transcript


def seal_answer(reply_key: bytes, request_id: bytes, kind: AnswerKind, content: bytes) -> bytes:
    """``content`` under the reply key, always ``ANSWER_CIPHERTEXT_BYTES`` long.

    A reply key is fresh for each request and seals at most one answer of each kind, so the kind can be
    the nonce. ``content`` has at most ``ANSWER_PLAINTEXT_BYTES - 4`` bytes.
    """
    padded = pad(ANSWER_PLAINTEXT_BYTES, content)
    return AESGCM(reply_key).encrypt(_answer_nonce(kind), padded, _answer_data(request_id, kind))


def open_answer(reply_key: bytes, request_id: bytes, kind: AnswerKind, ciphertext: bytes) -> bytes:
    """The content that ``seal_answer`` was given.

    Raises:
        SealError: another key, another request, another kind, changed bytes, or false padding.
    """
    data = _answer_data(request_id, kind)
    try:
        return bytes(unpad(AESGCM(reply_key).decrypt(_answer_nonce(kind), ciphertext, data)))
    except InvalidTag as exc:
        raise SealError from exc


def _answer_nonce(kind: AnswerKind) -> bytes:
    return bytes(11) + bytes([kind])


def _answer_data(request_id: bytes, kind: AnswerKind) -> bytes:
    return b"enclavectl answer v1" + request_id + bytes([kind])


def padme(length: int) -> int:
    """The next length that Padme allows: it leaks O(log log n) bits and costs at most 12 %.

    Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with
    PURBs", PETS 2019, section 4 (https://petsymposium.org/popets/2019/popets-2019-0056.php).
    """
    exponent = length.bit_length() - 1
    kept_bits = exponent.bit_length()
    mask = (1 << max(exponent - kept_bits, 0)) - 1
    return (length + mask) & ~mask


def pad(size: int, *content: bytes) -> bytes:
    """``u32 length | content | zeros``, ``size`` bytes in all; the parts of the content are joined.

    Raises:
        ValueError: the content does not fit; a bug of the caller.
    """
    length = sum(map(len, content))
    if length + 4 > size:
        raise ValueError(f"{length} bytes do not fit into {size} with their length")
    return b"".join((length.to_bytes(4, "big"), *content, bytes(size - 4 - length)))


def unpad(padded: bytes) -> memoryview:
    """What ``pad`` was given. Every padding byte must be zero, so that nothing hides in them.

    Raises:
        SealError: the length is false or a padding byte is not zero.
    """
    end = 4 + int.from_bytes(padded[:4], "big")
    if len(padded) < 4 or end > len(padded) or padded.count(0, end) != len(padded) - end:
        raise SealError
    return memoryview(padded)[4:end]
