"""Sign an image: write a new file with every field recomputed, and verify it; never change one in place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from enclavectl.eif.build import Parts, write_image
from enclavectl.eif.errors import EifError
from enclavectl.eif.findings import Severity
from enclavectl.eif.format import VERSION, SectionKind
from enclavectl.eif.layout import Layout
from enclavectl.eif.measure import Measurements, OnBytes, file_crc
from enclavectl.eif.pem import holds_private_key, pem_kind
from enclavectl.eif.scan import BUG_54, scan_layout
from enclavectl.eif.signature import (
    Curve,
    SignatureBlock,
    canonical_payload,
    certificate_key,
    check_validity,
    curve_of,
    parse_certificate,
    signed_bytes,
)
from enclavectl.errors import UsageError
from enclavectl.files import open_regular, status_at

MAX_PEM = 16 << 10  # bytes; a section holds 32 KiB and takes up to two bytes per byte of PEM


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySigner:
    """A private key on this machine and its certificate; ``load_signer`` creates it."""

    certificate_pem: bytes
    curve: Curve
    key: ec.EllipticCurvePrivateKey

    def sign(self, pcr0: str) -> SignatureBlock:
        """Sign PCR0. With RFC 6979 (OpenSSL 3.2) the signature has the same bytes each time."""
        payload = canonical_payload(pcr0)
        try:
            algorithm = ec.ECDSA(self.curve.digest, deterministic_signing=True)
        except UnsupportedAlgorithm:
            algorithm = ec.ECDSA(self.curve.digest)
        r, s = decode_dss_signature(self.key.sign(signed_bytes(self.curve, payload), algorithm))
        return SignatureBlock(
            certificate_pem=self.certificate_pem,
            curve=self.curve,
            payload=payload,
            signature=r.to_bytes(self.curve.width) + s.to_bytes(self.curve.width),
        )


def load_signer(key_pem: bytes, certificate_pem: bytes, *, now: datetime) -> KeySigner:
    """Make a signer whose certificate is valid ``now`` and belongs to the key.

    The image gets the certificate alone, whatever else is in its file.

    Raises:
        EifError: as ``load_key``, ``load_certificate`` and ``pair``.
    """
    return pair(load_key(key_pem), load_certificate(certificate_pem, now=now))


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read the private key in a PEM file.

    Raises:
        EifError: ``signing-key`` (none, encrypted, or something else), ``certificate-key`` (not EC P-256,
            P-384 or P-521) or ``section-too-large``.
    """
    _check_size(pem)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        kind = pem_kind(pem)
        raise EifError(
            f"expected an unencrypted private key as PEM, found {kind.what}",
            code="signing-key",
            hint=kind.to_key,
        ) from exc
    curve_of(key, "signing key")
    if not isinstance(key, ec.EllipticCurvePrivateKey):  # curve_of has checked it; for the type checker
        raise EifError("signing key: not an EC key", code="certificate-key")
    return key


def load_certificate(pem: bytes, *, now: datetime) -> x509.Certificate:
    """Read the first certificate in a PEM file; check that it is valid ``now`` and its key can sign images.

    Raises:
        EifError: ``certificate-form``, ``certificate-key``, ``certificate-time`` or ``section-too-large``.
    """
    _check_size(pem)
    certificate = parse_certificate(pem)
    certificate_key(certificate)
    check_validity(certificate, now)
    return certificate


def refuse_private_key(certificate_pem: bytes) -> None:
    """Refuse a certificate file with a private key: nitro-cli copies the whole file into the image.

    Raises:
        EifError: ``signature-private-key``.
    """
    if holds_private_key(certificate_pem):
        raise EifError(
            "the certificate file also holds a private key, which nitro-cli would put into the image",
            code="signature-private-key",
            hint="openssl x509 -in CERT.pem -out ONE.pem keeps only the certificate",
        )


def pair(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> KeySigner:
    """Make a signer of a key and its certificate.

    Raises:
        EifError: ``certificate-mismatch``.
    """
    if certificate.public_key() != key.public_key():
        raise EifError(
            "the certificate belongs to another key than the signing key",
            code="certificate-mismatch",
            hint="in a chain the signer's own certificate comes first; openssl req -new -x509 -key KEY.pem "
            "-sha384 -days 365 -out CERT.pem makes one that belongs",
        )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return KeySigner(certificate_pem=pem, curve=curve_of(key, "signing key"), key=key)


def _check_size(pem: bytes) -> None:
    if len(pem) > MAX_PEM:
        raise EifError(f"key and certificate may have {MAX_PEM} bytes each", code="section-too-large")


def sign_image(
    source: Path, output: Path, signer: KeySigner, *, on_bytes: OnBytes | None = None
) -> Measurements:
    """Write ``source`` to ``output`` with this signature in place of any other.

    A file that the official signer damaged when it signed a second time (``resigned-size-slot``) is accepted,
    because every field is rewritten. ``source`` stays unchanged.

    Raises:
        EifError: ``source`` breaks another rule, or is of an older version.
        UsageError: ``source`` cannot be read, or is the same file as ``output`` (``same-file``).
        HostError: ``output`` cannot be written.
    """
    if status_at(output) is not None and status_at(source) is not None and output.samefile(source):
        raise UsageError(
            f"{output}: images are never changed in place", code="same-file", hint="give another --to"
        )
    with open_regular(source, what="image file") as file:
        layout = _signable(file)
        if file_crc(layout) != layout.header.crc32:
            raise EifError("the CRC is wrong: the file is damaged", code="crc")
        parts = Parts(
            sections=tuple(
                (SectionKind(section.kind), layout.data(section))
                for section in layout.sections
                if section.kind != SectionKind.SIGNATURE
            ),
            flags=layout.header.flags,
            default_memory=layout.header.default_memory,
            default_cpus=layout.header.default_cpus,
            signer=signer,
        )
        return write_image(parts, output, on_bytes=on_bytes)


def _signable(file: BinaryIO) -> Layout:
    scan = scan_layout(file)
    for finding in scan.findings:
        if finding.severity is Severity.ERROR and finding.code != BUG_54:
            raise finding.to_error()
    if scan.linear is None or scan.linear.header.version != VERSION:
        raise EifError(f"only images of version {VERSION} can be signed", code="version", offset=4)
    return scan.linear
