"""The envelope: COSE_Sign1 (RFC 9052 section 4.2) in the one form that AWS writes.

Signed bytes are verified as received, never decoded and encoded again: AWS has changed its encoding
before (indefinite length maps since 2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA384

from enclavectl.attestation import cbor
from enclavectl.attestation.codes import AttestationCode, refused
from enclavectl.errors import AttestationError

# Real documents are 4.4 to 5.5 KB; AWS's limit for the payload alone is 16 KiB.
# https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md
MAX_DOCUMENT_BYTES = 32 * 1024
MAX_PAYLOAD_BYTES = 16 * 1024
SIGNATURE_BYTES = 96

_SIGN1_TAG = 18
# {1: -1}, which no signature algorithm has: what QEMU writes (hw/virtio/virtio-nsm.c), with zeros after it.
_EMULATOR_HEADER = bytes.fromhex("a10120")
_EMULATOR_HINT = "QEMU's documents are unsigned; a Nitro enclave's never are."
_EMULATOR_SIGNATURE = bytes(64)
# {1: -35}: ES384 and nothing else (no crit, no kid). Comparing the bytes means that there is nothing to
# parse and no second way to name an algorithm.
_ES384_HEADER = bytes.fromhex("a1013822")
_SCALAR_BYTES = SIGNATURE_BYTES // 2
# The order n of P-384's group (SEC 2, section 2.5.1); a scalar of 0 or from n up is no signature.
_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoseSign1:
    """The parts of a well-formed envelope. Nothing is authenticated yet."""

    protected: bytes
    payload: bytes
    signature: bytes

    def check_signature(self, key: ec.EllipticCurvePublicKey) -> None:
        """Check that the holder of ``key`` signed the protected header and the payload.

        Raises:
            AttestationError: ``signature``. High and low S are both accepted, since AWS writes both; so never
                use the document's bytes as its identity.
        """
        r = int.from_bytes(self.signature[:_SCALAR_BYTES])
        s = int.from_bytes(self.signature[_SCALAR_BYTES:])
        if not (0 < r < _ORDER and 0 < s < _ORDER):
            raise refused(AttestationCode.SIGNATURE, "signature: r or s is not between 0 and the group order")
        try:
            key.verify(utils.encode_dss_signature(r, s), self.to_be_signed(), ec.ECDSA(SHA384()))
        except InvalidSignature:
            raise refused(
                AttestationCode.SIGNATURE, "signature: the leaf certificate's key did not sign this document"
            ) from None

    def to_be_signed(self) -> bytes:
        """Encode the Sig_structure of RFC 9052 section 4.4, with empty external_aad."""
        return cbor2.dumps(["Signature1", self.protected, b"", self.payload])


def parse_cose(document: bytes) -> CoseSign1:
    """Read the envelope, and check every rule that needs no key.

    Raises:
        AttestationError: ``size``, ``cbor``, ``cose-structure`` or ``cose-algorithm``.
    """
    protected, payload, signature = _parse_envelope(document)
    if protected != _ES384_HEADER:
        raise refused(
            AttestationCode.COSE_ALGORITHM,
            f"protected header: expected {_ES384_HEADER.hex()} (ES384 alone), "
            f"found {protected[:16].hex() or 'nothing'}",
            hint=_EMULATOR_HINT if protected == _EMULATOR_HEADER else None,
        )
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        raise _structure(f"expected a signature of {SIGNATURE_BYTES} bytes (r and s, not DER)")
    return CoseSign1(protected=protected, payload=payload, signature=signature)


def parse_emulator_envelope(document: bytes) -> bytes:
    """Return the payload of a document that QEMU's NSM wrote, which nobody signed.

    What could be a signature is refused: a signed document must never pass for an unsigned one.

    Raises:
        AttestationError: ``size``, ``cbor``, ``cose-structure`` or ``emulator``.
    """
    protected, payload, signature = _parse_envelope(document)
    if protected != _EMULATOR_HEADER:
        raise refused(
            AttestationCode.EMULATOR,
            f"protected header: expected {_EMULATOR_HEADER.hex()}, as QEMU writes it, "
            f"found {protected[:16].hex() or 'nothing'}",
        )
    if signature != _EMULATOR_SIGNATURE:
        raise refused(
            AttestationCode.EMULATOR,
            f"signature: expected the emulator's {len(_EMULATOR_SIGNATURE)} zeros, found something else",
        )
    return payload


def _parse_envelope(document: bytes) -> tuple[bytes, bytes, cbor.Value]:
    """Return protected header, payload and signature; the last may be of any type."""
    if not 1 <= len(document) <= MAX_DOCUMENT_BYTES:
        raise refused(
            AttestationCode.SIZE, f"document: expected 1 to {MAX_DOCUMENT_BYTES} bytes, found {len(document)}"
        )
    try:
        value = cbor.decode(document, max_bytes=MAX_DOCUMENT_BYTES, optional_tag=_SIGN1_TAG)
    except cbor.CborError as exc:
        raise refused(AttestationCode.CBOR, f"document: {exc}") from exc
    if not isinstance(value, list) or len(value) != 4:
        raise _structure("expected an array of four (COSE_Sign1)")
    protected, unprotected, payload, signature = value
    if not isinstance(protected, bytes):
        raise _structure("expected the protected header as a byte string")
    # The unprotected header is not signed, so nothing may depend on it; AWS leaves it empty.
    if unprotected != {}:
        raise _structure("expected an empty unprotected header")
    if not isinstance(payload, bytes) or not 1 <= len(payload) <= MAX_PAYLOAD_BYTES:
        raise _structure(f"expected a payload of 1 to {MAX_PAYLOAD_BYTES} bytes")
    return protected, payload, signature


def _structure(problem: str) -> AttestationError:
    return refused(AttestationCode.COSE_STRUCTURE, f"document: {problem}")
