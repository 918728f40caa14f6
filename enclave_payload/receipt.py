"""Signed receipts: what lets a third party check, later, which model gave which answer for which picture.

A receipt is an Attested Inference Receipt, version 1: a COSE_Sign1 (RFC 9052) over CWT claims (RFC 8392). Its
key is born at boot, and every session's attestation document carries the public half. The format's rules:
https://github.com/cyntrisec/EphemeralML/blob/c6885fc/spec/v1/cddl/air-v1.cddl
"""

from __future__ import annotations

import hashlib
import hmac
import os
import resource
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256, Hash

from enclave_payload.cbor import Encodable, Encoded, encode
from enclave_payload.contents import Outcome, Request
from enclave_payload.messages import PROTOCOL_VERSION
from enclave_payload.wire import Buffer

if TYPE_CHECKING:  # clients import this module, and not the server's half of a session
    from enclave_payload.card import ModelCard
    from enclave_payload.session import AttestedSession

PROFILE = "https://spec.cyntrisec.com/air/v1"
# {1: -8, 3: 61}: EdDSA, application/cwt. RFC 9864 has deprecated -8 for -19; the format allows -8 alone.
PROTECTED = bytes.fromhex("a2012703183d")
# In the encoding of COSE_Sign1, which is tag 18.
TAG = b"\xd2"
# The format has a name for these. PCR16, the model's, stands in the attestation document alone.
_REGISTERS = (0, 1, 2, 3, 4, 8)
_MANDATORY_REGISTERS = (0, 1, 2)


class Claim(IntEnum):
    """The labels of the claims, by the format's names."""

    ISS = 1
    IAT = 6
    CTI = 7
    EAT_NONCE = 10
    EAT_PROFILE = 265
    MODEL_ID = -65537
    MODEL_VERSION = -65538
    MODEL_HASH = -65539
    REQUEST_HASH = -65540
    RESPONSE_HASH = -65541
    ATTESTATION_DOC_HASH = -65542
    ENCLAVE_MEASUREMENTS = -65543
    POLICY_VERSION = -65544
    SEQUENCE_NUMBER = -65545
    EXECUTION_TIME_MS = -65546
    MEMORY_PEAK_MB = -65547
    SECURITY_MODE = -65548
    MODEL_HASH_SCHEME = -65549


class SecurityMode(StrEnum):
    """The signer's own word on where it runs; what counts is the trust in the attestation document."""

    PRODUCTION = "production"
    EVALUATION = "evaluation"


def request_statement(salt: bytes, picture_sha256: bytes, media_type: str) -> bytes:
    """Encode the request as a receipt commits to it.

    ``salt`` is the request's own, 32 bytes. Without it nobody who sees a receipt can test known pictures.
    """
    return encode({"salt": salt, "picture": picture_sha256, "media_type": str(media_type)})


def answer_salt(salt: bytes) -> bytes:
    """Derive the salt of the answer's statement from the request's.

    It does not reveal that one, so that either statement can be shown alone.
    """
    return hmac.digest(salt, b"enclavectl answer salt v1", hashlib.sha256)


def answer_statement(salt: bytes, outcome: bytes) -> bytes:
    """Encode the answer as a receipt commits to it; ``outcome`` are the bytes of the sealed answer.

    ``salt`` is the answer's own.
    """
    return encode({"salt": salt, "outcome": outcome})


def to_be_signed(payload: bytes) -> bytes:
    """Encode the Sig_structure of RFC 9052 section 4.4, with empty external_aad."""
    return encode(["Signature1", PROTECTED, b"", payload])


def sign_claims(key: Ed25519PrivateKey, claims: Mapping[int, Encodable]) -> bytes:
    """Encode and sign the claims; the receipt has 66 bytes and its claims, below 900 for ours."""
    payload = encode(claims)
    return envelope(payload, key.sign(to_be_signed(payload)))


def envelope(payload: bytes, signature: bytes) -> bytes:
    """Encode the tagged COSE_Sign1 of RFC 9052 section 4.2, with nothing in the unprotected header."""
    return TAG + encode([PROTECTED, {}, payload, signature])


@dataclass(frozen=True, slots=True)
class Draft:
    """A receipt whose answer is still to come: its session, the answer's salt, and the claims so far."""

    session: AttestedSession
    answer_salt: bytes = field(repr=False)
    claims: Mapping[int, Encoded]


class ReceiptSigner:
    """The receipt key: born at boot, in memory only, never serialized.

    One serves all workers. ``public_key`` is the raw Ed25519 key, 32 bytes.
    """

    def __init__(self, describe: Callable[[int], tuple[bool, bytes]], *, is_device: bool) -> None:
        """Make the key, after ``entropy.ensure_seeded``, and read the registers with the NSM's ``describe``.

        ``is_device`` is true if ``describe`` asks a real /dev/nsm. A debug enclave's PCR0 is zero.

        Raises:
            NsmError: a register cannot be read.
        """
        registers = {index: describe(index)[1] for index in _REGISTERS}
        is_production = is_device and any(registers[0])
        mode = SecurityMode.PRODUCTION if is_production else SecurityMode.EVALUATION
        measurements: dict[str, Encodable] = {"measurement_type": "nitro-pcr"} | {
            f"pcr{index}": register
            for index, register in registers.items()
            if index in _MANDATORY_REGISTERS or any(register)
        }
        constant: dict[int, Encodable] = {
            Claim.ISS: "enclavectl",
            Claim.EAT_PROFILE: PROFILE,
            Claim.MODEL_VERSION: "1",
            Claim.ENCLAVE_MEASUREMENTS: measurements,
            Claim.POLICY_VERSION: f"enclavectl protocol {PROTOCOL_VERSION}",
            Claim.SECURITY_MODE: str(mode),
            Claim.MODEL_HASH_SCHEME: "sha256-single",
        }
        self._constant = _encoded(constant)
        self._key = Ed25519PrivateKey.generate()
        self.public_key = self._key.public_key().public_bytes_raw()
        self._lock = threading.Lock()

    def draft(self, session: AttestedSession, request: Request, card: ModelCard) -> Draft:
        """Begin the receipt of a request with what needs no answer: there is time while a decoder works."""
        asked = request_statement(request.salt, _sha256(request.picture), request.media_type)
        claims: dict[int, Encodable] = {
            Claim.CTI: os.urandom(16),
            Claim.EAT_NONCE: session.nonce,
            Claim.MODEL_ID: card.model_id,
            Claim.MODEL_HASH: bytes.fromhex(card.sha256),
            Claim.REQUEST_HASH: hashlib.sha256(asked).digest(),
            Claim.ATTESTATION_DOC_HASH: session.document_sha256,
            Claim.MEMORY_PEAK_MB: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        return Draft(session, answer_salt(request.salt), self._constant | _encoded(claims))

    def sign(self, draft: Draft, outcome: Outcome, encoded: bytes) -> bytes:
        """Sign that the model gave this outcome, whose sealed bytes are ``encoded``, to a request."""
        with self._lock:
            number = next(draft.session.numbers)
        answered = answer_statement(draft.answer_salt, encoded)
        return sign_claims(
            self._key,
            {
                **draft.claims,
                Claim.IAT: int(time.time()),
                Claim.RESPONSE_HASH: hashlib.sha256(answered).digest(),
                Claim.SEQUENCE_NUMBER: number,
                Claim.EXECUTION_TIME_MS: -(-outcome.timings.decoder_us // 1000),
            },
        )


def _encoded(claims: Mapping[int, Encodable]) -> dict[int, Encoded]:
    return {claim: Encoded(encode(value)) for claim, value in claims.items()}


def _sha256(picture: Buffer) -> bytes:
    # Not hashlib, which lacks OpenSSL in the image: it would take 60 ms for the largest picture, not 10.
    digest = Hash(SHA256())
    digest.update(picture)
    return digest.finalize()
