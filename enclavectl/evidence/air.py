"""A strict reader of signed receipts: Attested Inference Receipts (AIR), version 1.

A receipt is a COSE_Sign1 (RFC 9052) over a closed map of CWT claims (RFC 8392) in deterministic CBOR
(RFC 8949 section 4.2.1). The reader is total: for any bytes it returns a receipt or raises ReceiptError. It
takes one encoding of each receipt, so that nobody can change a byte that the signature does not cover. Rules:
https://github.com/cyntrisec/EphemeralML/blob/c6885fc/spec/v1/cddl/air-v1.cddl
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from enclavectl.evidence.claims import ClaimReader
from enclavectl.evidence.codes import ReceiptCode, ReceiptError
from enclavectl.protocol.cbor import CborEncodingError, CborError, Value, decode
from enclavectl.protocol.receipts import (
    PROFILE,
    PROTECTED,
    TAG,
    Claim,
    SecurityMode,
    envelope,
    to_be_signed,
)

MAX_RECEIPT_BYTES = 65_536
PUBLIC_KEY_BYTES = 32

_SIGNATURE_BYTES = 64
_HASH_BYTES = 32
_CTI_BYTES = 16
# Where the payload begins if it has 256 to 65,535 bytes.
_PAYLOAD_AT = len(envelope(bytes(256), b"")) - 256 - 1
_KNOWN = frozenset(Claim)
_MANDATORY = _KNOWN - {Claim.EAT_NONCE, Claim.MODEL_HASH_SCHEME}
# The y of the points of small order, canonical and not, without the bit of x. As a public key or as a
# signature's R they let one signature fit many messages; dalek's verify_strict, which AIR asks for, refuses
# them, and OpenSSL does not. https://github.com/jedisct1/libsodium/blob/1.0.20-RELEASE
# /src/libsodium/crypto_core/ed25519/ref10/ed25519_ref10.c (ge25519_has_small_order)
_P = 2**255 - 19
_SMALL_ORDER = frozenset(
    {
        *(0, 1, _P - 1, _P, _P + 1),
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The claims of a receipt by the format's names. The author of the bytes chose every value.

    ``iat`` counts seconds since 1970. ``pcrs`` are the registers by index, whatever the platform calls them.
    ``payload`` is what was signed, ``raw`` the whole receipt.
    """

    iss: str
    iat: int
    cti: bytes
    eat_nonce: bytes | None
    eat_profile: str
    model_id: str
    model_version: str
    model_hash: bytes
    request_hash: bytes
    response_hash: bytes
    attestation_doc_hash: bytes
    measurement_type: str
    pcrs: Mapping[int, bytes]
    policy_version: str
    sequence_number: int
    execution_time_ms: int
    memory_peak_mb: int
    security_mode: SecurityMode
    model_hash_scheme: str | None
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def issued_at(self) -> datetime:
        """The time of ``iat``, by the clock of the enclave."""
        return datetime.fromtimestamp(self.iat, UTC)


def parse_receipt(data: bytes) -> Receipt:
    """Read a receipt, and check every rule that needs no key and no document.

    Raises:
        ReceiptError: its code is one of those of the bytes or of the claims.
    """
    payload, signature = _parse_envelope(data)
    claims = ClaimReader(_parse_claims(payload))
    profile = claims.text(Claim.EAT_PROFILE, 256)
    if profile != PROFILE:
        raise ReceiptError(
            ReceiptCode.RECEIPT_PROFILE, f"eat_profile: expected {PROFILE}, found {profile!r:.80}"
        )
    measurement_type, pcrs = claims.measurements()
    return Receipt(
        iss=claims.text(Claim.ISS, 256),
        iat=claims.seconds(Claim.IAT),
        cti=claims.not_zero(Claim.CTI, _CTI_BYTES),
        eat_nonce=claims.nonce(),
        eat_profile=profile,
        model_id=claims.text(Claim.MODEL_ID, 256),
        model_version=claims.text(Claim.MODEL_VERSION, 128),
        model_hash=claims.not_zero(Claim.MODEL_HASH, _HASH_BYTES),
        request_hash=claims.byte_string(Claim.REQUEST_HASH, _HASH_BYTES),
        response_hash=claims.byte_string(Claim.RESPONSE_HASH, _HASH_BYTES),
        attestation_doc_hash=claims.byte_string(Claim.ATTESTATION_DOC_HASH, _HASH_BYTES),
        measurement_type=measurement_type,
        pcrs=pcrs,
        policy_version=claims.text(Claim.POLICY_VERSION, 256),
        sequence_number=claims.uint(Claim.SEQUENCE_NUMBER),
        execution_time_ms=claims.uint(Claim.EXECUTION_TIME_MS),
        memory_peak_mb=claims.uint(Claim.MEMORY_PEAK_MB),
        security_mode=claims.mode(),
        model_hash_scheme=claims.scheme(),
        payload=payload,
        signature=signature,
        raw=data,
    )


def check_signature(receipt: Receipt, public_key: bytes | None) -> None:
    """Check that the holder of ``public_key`` signed the receipt (RFC 8032 section 5.1.7, strict).

    Raises:
        ReceiptError: ``no-receipt-key`` or ``receipt-signature``.
    """
    key = _load_key(public_key)
    if not _has_small_order(receipt.signature[:32]):
        with suppress(InvalidSignature):
            key.verify(receipt.signature, to_be_signed(receipt.payload))
            return
    raise ReceiptError(
        ReceiptCode.RECEIPT_SIGNATURE,
        f"signature: the key {key.public_bytes_raw().hex()} did not sign this receipt",
    )


# The receipts of a session have one key.
@lru_cache(maxsize=4)
def _load_key(public_key: bytes | None) -> Ed25519PublicKey:
    if public_key is None or len(public_key) != PUBLIC_KEY_BYTES or _has_small_order(public_key):
        found = "none" if public_key is None else f"{len(public_key)} bytes"
        raise ReceiptError(
            ReceiptCode.NO_RECEIPT_KEY, f"public_key: expected an Ed25519 key of 32 bytes, found {found}"
        )
    return Ed25519PublicKey.from_public_bytes(public_key)


def _has_small_order(point: bytes) -> bool:
    return int.from_bytes(point, "little") & ~(1 << 255) in _SMALL_ORDER


def _parse_envelope(data: bytes) -> tuple[bytes, bytes]:
    """Return the payload and the signature of the one form that a COSE_Sign1 of this format has."""
    if not 1 <= len(data) <= MAX_RECEIPT_BYTES:
        raise ReceiptError(
            ReceiptCode.RECEIPT_SIZE, f"receipt: expected 1 to {MAX_RECEIPT_BYTES} bytes, found {len(data)}"
        )
    if not data.startswith(TAG):
        raise ReceiptError(
            ReceiptCode.RECEIPT_TAG,
            f"receipt: expected the tag of COSE_Sign1 (d2), found {data[:1].hex()}",
        )
    # As receipts of our enclaves are, and then it is the one encoding: nothing else is to be checked.
    payload, signature = data[_PAYLOAD_AT : -_SIGNATURE_BYTES - 2], data[-_SIGNATURE_BYTES:]
    if data == envelope(payload, signature):
        return payload, signature
    value = _decode(data[1:], "receipt")
    match value:
        case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
            pass
        case _:
            raise _structure("expected an array of header, map, payload and signature (COSE_Sign1)")
    if unprotected:
        raise _structure("expected an empty unprotected header")
    if len(signature) != _SIGNATURE_BYTES:
        raise _structure(f"expected a signature of {_SIGNATURE_BYTES} bytes, found {len(signature)}")
    if protected != PROTECTED:
        raise ReceiptError(
            ReceiptCode.RECEIPT_ALGORITHM,
            f"protected header: expected {PROTECTED.hex()} (EdDSA, application/cwt), "
            f"found {protected[:16].hex() or 'nothing'}",
        )
    return payload, signature


def _parse_claims(payload: bytes) -> Mapping[int | str, Value]:
    value = _decode(payload, "payload")
    if not isinstance(value, dict):
        raise _structure(f"expected a map of claims as payload, found {type(value).__name__}")
    if absent := _MANDATORY - value.keys():
        missing = [claim.name.lower() for claim in Claim if claim in absent]
        raise ReceiptError(ReceiptCode.CLAIM_MISSING, f"payload: missing {', '.join(missing)}")
    if strange := value.keys() - _KNOWN:
        unknown = sorted(f"{key!r:.40}" for key in strange)
        raise ReceiptError(
            ReceiptCode.CLAIM_UNKNOWN, f"payload: {', '.join(unknown[:5])} is no claim of this format"
        )
    return value


def _decode(data: bytes, where: str) -> Value:
    try:
        return decode(data, max_bytes=MAX_RECEIPT_BYTES)
    except CborEncodingError as exc:
        raise ReceiptError(ReceiptCode.RECEIPT_ENCODING, f"{where}: {exc}") from exc
    except CborError as exc:
        raise ReceiptError(ReceiptCode.RECEIPT_CBOR, f"{where}: {exc}") from exc


def _structure(problem: str) -> ReceiptError:
    return ReceiptError(ReceiptCode.RECEIPT_STRUCTURE, f"receipt: {problem}")
