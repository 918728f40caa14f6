"""The signature section: canonical CBOR, COSE_Sign1, the certificate, and their checks.

The official library writes byte strings as arrays of integers, and its readers accept different variants of
that. This module accepts only the canonical form. It rebuilds the signed bytes from the PCR0 that we
computed, and only compares them with the payload in the file.

https://github.com/aws/aws-nitro-enclaves-image-format (types ``PcrSignature`` and ``PcrInfo``), RFC 9052.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from enclave_payload.cbor import CborError, Value, decode, encode
from enclavectl.eif.errors import EifError
from enclavectl.eif.findings import Finding, Severity
from enclavectl.eif.format import MAX_SIGNATURE
from enclavectl.eif.measure import certificate_pcr
from enclavectl.eif.pem import holds_private_key, pem_blocks, pem_kind

# By hand, since the official writer does not sort these keys as deterministic CBOR does.
_OUTER = b"\x81\xa2\x73signing_certificate"
_SECOND_KEY = b"\x69signature"
# The output of `openssl x509 -in CERT -out ONE.pem`, with either line ending.
_ONE_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n((?:[A-Za-z0-9+/=]{1,76}\r?\n)+)-----END CERTIFICATE-----(?:\r?\n)?",
    re.ASCII,
)


class Curve(Enum):
    """The curves that signed images use; the COSE algorithm follows the curve (RFC 9053, 2.1)."""

    P256 = ("secp256r1", hashes.SHA256(), 32, b"\xa1\x01\x26")
    P384 = ("secp384r1", hashes.SHA384(), 48, b"\xa1\x01\x38\x22")
    P521 = ("secp521r1", hashes.SHA512(), 66, b"\xa1\x01\x38\x23")

    def __init__(self, openssl_name: str, digest: hashes.HashAlgorithm, width: int, protected: bytes) -> None:
        self.openssl_name = openssl_name
        self.digest = digest
        self.width = width
        self.protected = protected


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureBlock:
    """The section's content: a certificate as PEM, and the parts of a COSE_Sign1."""

    certificate_pem: bytes
    curve: Curve
    payload: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return the section in the official writer's form."""
        return _outer(self.certificate_pem, encode([self.curve.protected, {}, self.payload, self.signature]))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSignature:
    """The evidence that the certificate's key signed this image's PCR0.

    No authority vouches for the certificate: PCR8 is the signer's identity.
    """

    certificate: x509.Certificate
    curve: Curve
    pcr8: str


def parse_signature(data: bytes, *, offset: int = 0) -> SignatureBlock:
    """Read a signature section in its canonical form. Verify neither signature nor certificate.

    Raises:
        EifError: ``section-too-large``, ``signature-form`` (the CBOR around) or ``signature-cose``
            (the COSE_Sign1 inside) or ``signature-algorithm`` (the length is that
            of another curve's signature); ``offset`` is that of the section's data.
    """
    if len(data) > MAX_SIGNATURE:
        raise EifError(
            f"signature: expected at most {MAX_SIGNATURE} bytes, found {len(data)}",
            code="section-too-large",
            offset=offset,
        )
    match _decode(data, "signature-form", offset):
        case [{"signing_certificate": list(certificate), "signature": list(inner)}]:
            pem, cose = _octets(certificate), _octets(inner)
        case _:
            raise _form("signature-form", offset)
    if data != _outer(pem, cose):
        raise _form("signature-form", offset)
    match _decode(cose, "signature-cose", offset):
        case [bytes(protected), {}, bytes(payload), bytes(signature)] if cose == encode(
            [protected, {}, payload, signature]
        ):
            pass
        case _:
            raise _form("signature-cose", offset)
    curve = next((one for one in Curve if one.protected == protected), None)
    if curve is None:
        raise EifError(
            f"signature: protected header {protected[:16].hex()} is none of ES256, ES384, ES512",
            code="signature-cose",
            offset=offset,
        )
    if len(signature) != 2 * curve.width:
        other = any(len(signature) == 2 * known.width for known in Curve)
        raise EifError(
            f"signature: expected {2 * curve.width} bytes for {curve.name}, found {len(signature)}",
            code="signature-algorithm" if other else "signature-cose",
            offset=offset,
        )
    return SignatureBlock(certificate_pem=pem, curve=curve, payload=payload, signature=signature)


def _outer(pem: bytes, cose: bytes) -> bytes:
    """Return the section: serde encodes a Rust ``Vec<u8>`` as an array of integers."""
    return _OUTER + encode(list(pem)) + _SECOND_KEY + encode(list(cose))


def _octets(numbers: list[Value]) -> bytes:
    """Return the bytes of an array of integers; others are left out, so that it is another when encoded."""
    return bytes([one for one in numbers if isinstance(one, int) and 0 <= one < 256])


def _decode(data: bytes, code: str, offset: int) -> Value:
    try:
        return decode(data, max_bytes=MAX_SIGNATURE)
    except CborError as exc:
        raise EifError(f"{code}: {exc}", code=code, offset=offset) from exc


def _form(code: str, offset: int) -> EifError:
    return EifError(
        f"{code}: expected the CBOR of the official writer, found another", code=code, offset=offset
    )


def parse_certificate(pem: bytes) -> x509.Certificate:
    """Read the first certificate in a PEM file as OpenSSL does; PCR8 is its hash.

    nitro-cli copies the file into the image, so empty lines, text and a chain may surround it;
    ``form_finding`` reports them.

    Raises:
        EifError: ``certificate-form``; the file has none, or it is damaged.
    """
    found = (block for block in pem_blocks(pem) if block.label in ("CERTIFICATE", "X509 CERTIFICATE"))
    block = next(found, None)
    if block is None:
        kind = pem_kind(pem)
        raise EifError(
            f"certificate: expected a PEM block BEGIN CERTIFICATE, found {kind.what}",
            code="certificate-form",
            hint=kind.to_certificate,
        )
    try:
        der = base64.b64decode(block.body, validate=True)
        certificate = x509.load_der_x509_certificate(der)
        canonical = certificate.public_bytes(serialization.Encoding.DER)
    except (ValueError, binascii.Error, x509.InvalidVersion) as exc:
        raise EifError(f"certificate: not an X.509 certificate ({exc})", code="certificate-form") from exc
    if canonical != der:
        raise EifError("certificate: not DER; it encodes differently again", code="certificate-form")
    return certificate


def form_finding(block: SignatureBlock, offset: int) -> Finding | None:
    """Warn if the PEM file has anything around the certificate; PCR8 does not depend on it.

    ``offset`` is the offset of the section's data.
    """
    if _ONE_CERTIFICATE.fullmatch(block.certificate_pem):
        return None
    labels = [one.label for one in pem_blocks(block.certificate_pem)]
    what = f"{len(labels)} PEM blocks" if len(labels) > 1 else "more than one plain PEM block"
    return Finding(
        severity=Severity.WARNING,
        code="certificate-form",
        message=f"the signature section holds {what}: only the first certificate counts, for PCR8 too; "
        "other readers may refuse it",
        offset=offset,
        hint="enclavectl eif sign writes the certificate alone",
    )


def key_finding(section: bytes, offset: int) -> Finding | None:
    """Warn of a private key in a signature section, even in one that cannot be parsed."""
    if not holds_private_key(section):
        return None
    return Finding(
        severity=Severity.WARNING,
        code="signature-private-key",
        message="the signature section holds a PRIVATE KEY: whoever has this file can sign as its owner",
        offset=offset,
        hint="stop trusting its PCR8, make a new key and certificate, sign again with enclavectl eif sign, "
        "and delete every copy of this file",
    )


def curve_of(key: object, what: str) -> Curve:
    """Return the curve of an EC key, public or private.

    Raises:
        EifError: ``certificate-key``; not an EC key on P-256, P-384 or P-521.
    """
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        for curve in Curve:
            if key.curve.name == curve.openssl_name:
                return curve
        found = key.curve.name
    else:
        found = type(key).__name__
    raise EifError(
        f"{what}: expected an EC key on P-256, P-384 or P-521, found {found}",
        code="certificate-key",
        hint="openssl ecparam -name secp384r1 -genkey -noout -out KEY.pem",
    )


def certificate_key(certificate: x509.Certificate) -> tuple[ec.EllipticCurvePublicKey, Curve]:
    """Return the certificate's key, which can sign images, and its curve.

    Raises:
        EifError: ``certificate-key``; it cannot be read, or is not EC on P-256, P-384 or P-521.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise EifError(f"certificate: its key cannot be read ({exc})", code="certificate-key") from exc
    curve = curve_of(key, "certificate")
    if not isinstance(key, ec.EllipticCurvePublicKey):  # curve_of has checked it; for the type checker
        raise EifError("certificate: not an EC key", code="certificate-key")
    return key, curve


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Check that ``now`` (with a time zone) is within the certificate's validity, both ends included.

    Raises:
        EifError: ``certificate-time``.
    """
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now <= end:
        word = "not valid yet" if now < start else "expired"
        raise EifError(
            f"certificate: {word}; valid from {start:%Y-%m-%d %H:%M:%S}Z to {end:%Y-%m-%d %H:%M:%S}Z",
            code="certificate-time",
        )


def issuer_names(certificate: x509.Certificate) -> list[tuple[x509.ObjectIdentifier, str]]:
    """Return the attributes of a certificate's issuer, in order. They are the signer's unchecked claim.

    Raises:
        EifError: ``certificate-issuer``; they cannot be read, such as an empty country or broken text.
    """
    try:
        return [(attribute.oid, str(attribute.value)) for attribute in certificate.issuer]
    except (ValueError, TypeError) as exc:
        raise EifError(f"certificate: its issuer cannot be read ({exc})", code="certificate-issuer") from exc


def certificate_facts(block: SignatureBlock) -> tuple[x509.Certificate, str]:
    """Return the certificate and PCR8.

    Raises:
        EifError: ``certificate-form``.
    """
    certificate = parse_certificate(block.certificate_pem)
    return certificate, certificate_pcr(certificate.public_bytes(serialization.Encoding.DER))


def canonical_payload(pcr0: str) -> bytes:
    """Return the payload that the signer of an image with this PCR0 signs (inside the Sig_structure)."""
    return encode({"register_index": 0, "register_value": list(bytes.fromhex(pcr0))})


def signed_bytes(curve: Curve, payload: bytes) -> bytes:
    """Return the Sig_structure of RFC 9052, 4.4, without external data."""
    return encode(["Signature1", curve.protected, b"", payload])


def verify_signature(block: SignatureBlock, *, pcr0: str) -> VerifiedSignature:
    """Verify that the certificate's key signed exactly this PCR0. The time is not checked.

    Raises:
        EifError: ``certificate-form``, ``certificate-key``, ``signature-algorithm`` (not that of the key's
            curve), ``signature-payload`` (another register or value was signed) or ``signature-invalid``.
    """
    # 1. Read the certificate and a key that can sign images.
    certificate, pcr8 = certificate_facts(block)
    key, curve = certificate_key(certificate)
    # 2. Require the algorithm that the curve implies.
    if curve is not block.curve:
        raise EifError(
            f"signature: made for {block.curve.name}, but the certificate's key is on {curve.name}",
            code="signature-algorithm",
        )
    # 3. Require that the payload is register 0 with the value that we computed.
    if block.payload != canonical_payload(pcr0):
        raise EifError("signature: it is not over this image's PCR0", code="signature-payload")
    # 4. Verify the signature over the bytes that we rebuilt.
    r = int.from_bytes(block.signature[: curve.width])
    s = int.from_bytes(block.signature[curve.width :])
    try:
        key.verify(encode_dss_signature(r, s), signed_bytes(curve, block.payload), ec.ECDSA(curve.digest))
    except InvalidSignature:
        raise EifError(
            "signature: not made by the key of the certificate", code="signature-invalid"
        ) from None
    return VerifiedSignature(certificate=certificate, curve=curve, pcr8=pcr8)
