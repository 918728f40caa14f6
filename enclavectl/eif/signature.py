"""The signature section: CBOR in exactly one form, COSE_Sign1, the certificate, and the checks of them.

The official library writes byte strings as arrays of integers and its readers accept many variants of that,
each of them a little differently. Here only the canonical form exists, and the signed bytes are rebuilt from
the PCR0 that we computed; what the file says was signed is merely compared.

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

from enclavectl.eif.errors import EifError
from enclavectl.eif.format import MAX_SIGNATURE
from enclavectl.eif.measure import certificate_pcr

_OUTER = b"\x81\xa2\x73signing_certificate"
_SECOND_KEY = b"\x69signature"
_PAYLOAD = b"\xa2\x6eregister_index\x00\x6eregister_value"
_SIGNATURE1 = b"\x84\x6aSignature1"
_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n((?:[A-Za-z0-9+/=]{1,76}\r?\n)+)-----END CERTIFICATE-----(?:\r?\n)?", re.ASCII
)


class Curve(Enum):
    """The curves that signed images use; the COSE algorithm follows the curve (RFC 9053, 2.1)."""

    P256 = ("secp256r1", -7, hashes.SHA256(), 32, b"\xa1\x01\x26")
    P384 = ("secp384r1", -35, hashes.SHA384(), 48, b"\xa1\x01\x38\x22")
    P521 = ("secp521r1", -36, hashes.SHA512(), 66, b"\xa1\x01\x38\x23")

    def __init__(
        self, openssl_name: str, algorithm: int, digest: hashes.HashAlgorithm, width: int, protected: bytes
    ) -> None:
        self.openssl_name = openssl_name
        self.algorithm = algorithm
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
        """The section in the official writer's form."""
        cose = b"\x84%s\xa0%s%s" % (
            _byte_string(self.curve.protected),
            _byte_string(self.payload),
            _byte_string(self.signature),
        )
        return _OUTER + _array(self.certificate_pem) + _SECOND_KEY + _array(cose)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSignature:
    """The signature is over this image's PCR0, under the certificate's key.

    Nobody vouches for the certificate: the signer's identity is PCR8.
    """

    certificate: x509.Certificate
    curve: Curve
    pcr8: str


def parse_signature(data: bytes, *, offset: int = 0) -> SignatureBlock:
    """Read a signature section in its canonical form. Checks no signature and no certificate.

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
    reader = _Reader(data, "signature-form", offset)
    reader.expect(_OUTER)
    pem = reader.array()
    reader.expect(_SECOND_KEY)
    inner = reader.array()
    reader.end()
    cose = _Reader(inner, "signature-cose", offset)
    cose.expect(b"\x84")
    protected = cose.byte_string()
    cose.expect(b"\xa0")
    payload, signature = cose.byte_string(), cose.byte_string()
    cose.end()
    for curve in Curve:
        if protected == curve.protected:
            if len(signature) != 2 * curve.width:
                other = any(len(signature) == 2 * known.width for known in Curve)
                raise EifError(
                    f"signature: expected {2 * curve.width} bytes for {curve.name}, found {len(signature)}",
                    code="signature-algorithm" if other else "signature-cose",
                    offset=offset,
                )
            return SignatureBlock(certificate_pem=pem, curve=curve, payload=payload, signature=signature)
    raise EifError(
        f"signature: protected header {protected[:16].hex()} is none of ES256, ES384, ES512",
        code="signature-cose",
        offset=offset,
    )


def parse_certificate(pem: bytes) -> x509.Certificate:
    """The one certificate in a PEM file that holds nothing else.

    Raises:
        EifError: ``certificate-form``.
    """
    match = _PEM.fullmatch(pem)
    if match is None:
        raise EifError(
            "certificate: expected one PEM block (BEGIN CERTIFICATE) and no text around it",
            code="certificate-form",
            hint="openssl x509 -in CERT -out ONE.pem keeps only the first certificate, without text",
        )
    try:
        der = base64.b64decode(match[1].replace(b"\r", b"").replace(b"\n", b""), validate=True)
        certificate = x509.load_der_x509_certificate(der)
        canonical = certificate.public_bytes(serialization.Encoding.DER)
    except (ValueError, binascii.Error, x509.InvalidVersion) as exc:
        raise EifError(f"certificate: not an X.509 certificate ({exc})", code="certificate-form") from exc
    if canonical != der:
        raise EifError("certificate: not DER; it encodes differently again", code="certificate-form")
    return certificate


def curve_of(key: object, what: str) -> Curve:
    """The curve of an EC key, public or private.

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


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Return if ``now`` (with a time zone) is within the certificate's validity, both ends included.

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


def certificate_facts(block: SignatureBlock) -> tuple[x509.Certificate, str]:
    """The certificate and PCR8.

    Raises:
        EifError: ``certificate-form``.
    """
    certificate = parse_certificate(block.certificate_pem)
    return certificate, certificate_pcr(certificate.public_bytes(serialization.Encoding.DER))


def canonical_payload(pcr0: str) -> bytes:
    """The bytes that a signer of an image with this PCR0 signs (inside the Sig_structure)."""
    return _PAYLOAD + _array(bytes.fromhex(pcr0))


def signed_bytes(curve: Curve, payload: bytes) -> bytes:
    """The Sig_structure of RFC 9052, 4.4, without external data."""
    return _SIGNATURE1 + _byte_string(curve.protected) + b"\x40" + _byte_string(payload)


def verify_signature(block: SignatureBlock, *, pcr0: str) -> VerifiedSignature:
    """Evidence that the certificate's key signed exactly this PCR0. Does not look at the time.

    Raises:
        EifError: ``certificate-form``, ``certificate-key``, ``signature-algorithm`` (not that of the key's
            curve), ``signature-payload`` (another register or value was signed) or ``signature-invalid``.
    """
    # 1. The certificate, and a key that could have signed.
    certificate, pcr8 = certificate_facts(block)
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise EifError(f"certificate: its key cannot be read ({exc})", code="certificate-key") from exc
    curve = curve_of(key, "certificate")
    # 2. The algorithm must be the one that the curve implies.
    if curve is not block.curve:
        raise EifError(
            f"signature: made for {block.curve.name}, but the certificate's key is on {curve.name}",
            code="signature-algorithm",
        )
    # 3. What was signed must be register 0 with the value that we computed.
    if block.payload != canonical_payload(pcr0):
        raise EifError("signature: it is not over this image's PCR0", code="signature-payload")
    # 4. The signature over the bytes that we rebuilt.
    if not isinstance(key, ec.EllipticCurvePublicKey):  # pragma: no cover - curve_of has made sure
        raise EifError("certificate: not an EC key", code="certificate-key")
    r = int.from_bytes(block.signature[: curve.width])
    s = int.from_bytes(block.signature[curve.width :])
    try:
        key.verify(encode_dss_signature(r, s), signed_bytes(curve, block.payload), ec.ECDSA(curve.digest))
    except InvalidSignature:
        raise EifError(
            "signature: not made by the key of the certificate", code="signature-invalid"
        ) from None
    return VerifiedSignature(certificate=certificate, curve=curve, pcr8=pcr8)


def _head(major: int, count: int) -> bytes:
    """A CBOR head in its shortest form; everything here is shorter than 65,536."""
    if count < 24:
        return bytes([major | count])
    if count < 256:
        return bytes([major | 24, count])
    return bytes([major | 25]) + count.to_bytes(2)


def _byte_string(data: bytes) -> bytes:
    return _head(0x40, len(data)) + data


def _array(data: bytes) -> bytes:
    return _head(0x80, len(data)) + b"".join([_head(0, value) for value in data])


class _Reader:
    """Reads only what ``_head``, ``_byte_string`` and ``_array`` write."""

    def __init__(self, data: bytes, code: str, base: int) -> None:
        self._data, self._code, self._base, self._at = data, code, base, 0

    def expect(self, literal: bytes) -> None:
        if not self._data.startswith(literal, self._at):
            found = self._data[self._at : self._at + len(literal)].hex() or "the end"
            raise self._error(f"expected {literal.hex()}, found {found}")
        self._at += len(literal)

    def byte_string(self) -> bytes:
        size = self._number(0x40)
        data = self._data[self._at : self._at + size]
        if len(data) != size:
            raise self._error(f"expected {size} more bytes, found {len(data)}")
        self._at += size
        return data

    def array(self) -> bytes:
        return bytes([self._octet() for _ in range(self._number(0x80))])

    def end(self) -> None:
        if self._at != len(self._data):
            raise self._error(f"{len(self._data) - self._at} bytes too many")

    def _octet(self) -> int:
        value = self._number(0)
        if value > 255:
            raise self._error(f"expected an integer up to 255, found {value}")
        return value

    def _number(self, major: int) -> int:
        for extra, least in ((0, 0), (1, 24), (2, 256)):
            head = self._data[self._at : self._at + 1 + extra]
            if len(head) != 1 + extra:
                raise self._error("the data ends early")
            info = head[0] - major
            if extra == 0 and 0 <= info < 24:
                self._at += 1
                return info
            if extra and info == 23 + extra:
                value = int.from_bytes(head[1:])
                if value < least:
                    raise self._error("a number is not in its shortest form")
                self._at += 1 + extra
                return value
        raise self._error(f"expected a CBOR head of major type {major >> 5}, found {self._data[self._at]:#x}")

    def _error(self, text: str) -> EifError:
        return EifError(f"{self._code}: {text}", code=self._code, offset=self._base + self._at)
