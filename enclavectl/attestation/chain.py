"""Path validation for the Nitro PKI, from the pinned root to the leaf certificate.

We walk the chain ourselves, without ``cryptography.x509.verification``. AWS's instance certificates
have no AKI and its leaves no SAN, so that library accepts real chains only with extension policies
that require almost nothing, and then also accepts 14 of the 55 forged chains of our tests. The tests
use it as a second opinion: it must accept every chain that this walk accepts. The rules are RFC 5280
section 6.1 without the parts that this PKI does not use: no policies, no name constraints, no CRLs
(AWS says not to fetch them).
https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.oid import NameOID

from enclavectl.attestation.codes import AttestationCode, refused
from enclavectl.attestation.trust import TrustRoot
from enclavectl.errors import AttestationError
from enclavectl.trust import AWS_ROOTS

TIME = "%Y-%m-%d %H:%M:%S %Z"
"""How messages of this ring write a time."""

# AlgorithmIdentifier of ecdsa-with-SHA384 (RFC 5758 section 3.2): an OID and no parameters.
_ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
# SubjectPublicKeyInfo of a P-384 key with its curve by name and its point uncompressed (RFC 5480 section 2):
# this prefix, then the 96 bytes of x and y.
_P384_PREFIX = bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004")
_P384_BYTES = len(_P384_PREFIX) + 96
_SIGNATURE_BYTES = 104
_CRITICAL_EXTENSIONS_WE_PROCESS = frozenset({x509.BasicConstraints.oid, x509.KeyUsage.oid})
# cryptography raises these for bytes that are no certificate, or one that it cannot read.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UserWarning,  # its deprecation warnings, if the caller turns warnings into errors
)
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One certificate of a chain, read and checked on its own. Times are UTC, ``not_after`` inclusive.

    cryptography parses many parts only on access, and raises then; so ``_read`` accesses every part that
    is used later, but for the leaf's subject: names are compared as they are encoded.
    """

    where: str
    certificate: x509.Certificate
    extensions: x509.Extensions
    key: ec.EllipticCurvePublicKey
    signed: bytes
    issuer_der: bytes
    subject_der: bytes
    not_before: datetime
    not_after: datetime

    def extension(self, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
        """Return the extension of that kind, or None."""
        try:
            return self.extensions.get_extension_for_class(kind)
        except x509.ExtensionNotFound:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Certificates from the root to the leaf, each signed by the one before it."""

    links: tuple[Link, ...]

    @property
    def leaf(self) -> Link:
        """The certificate of the enclave; its key signs the documents."""
        return self.links[-1]

    def check_validity(self, at: datetime, *, skew: timedelta) -> None:
        """Check that every certificate, the root included, is valid at ``at``, give or take ``skew``.

        Raises:
            AttestationError: ``chain-not-yet-valid`` or ``chain-expired``.
        """
        for link in self.links:
            # Compare differences, because ``at + skew`` may leave the range of datetime.
            if link.not_before - at > skew:
                raise refused(
                    AttestationCode.CHAIN_NOT_YET_VALID,
                    f"{link.where}: valid from {link.not_before:{TIME}}, but it is {at:{TIME}}",
                )
            if at - link.not_after > skew:
                raise refused(
                    AttestationCode.CHAIN_EXPIRED,
                    f"{link.where}: valid until {link.not_after:{TIME}}, but it is {at:{TIME}}",
                )

    def check_leaf_name(self, module_id: str) -> None:
        """Check that the leaf was issued to ``module_id``.

        AWS does not promise this, but names every leaf ``<module_id>.<region>.aws``.

        Raises:
            AttestationError: ``leaf-name``, or ``chain-certificate``: the subject is none.
        """
        try:
            subject = self.leaf.certificate.subject
        except _UNREADABLE as exc:
            raise refused(
                AttestationCode.CHAIN_CERTIFICATE, f"leaf certificate: expected a readable subject ({exc})"
            ) from exc
        names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if len(names) != 1 or not str(names[0].value).startswith(module_id + "."):
            raise refused(
                AttestationCode.LEAF_NAME,
                f"leaf certificate: expected a CN that begins with {module_id}., "
                f"found {subject.rfc4514_string():.120}",
            )


def walk_chain(cabundle: Sequence[bytes], leaf: bytes, root: TrustRoot) -> Chain:
    """Walk from ``root`` over ``cabundle[1:]`` to ``leaf``, and check every rule but time.

    ``cabundle[0]`` must equal the root, byte for byte; the trust is in ``root`` itself. Each other
    certificate is untrusted until the one before it has been checked as its issuer.

    Raises:
        AttestationError: one of the ``chain-`` codes.
    """
    _check_root(cabundle[0], root)
    encoded = (root.certificate_der, *cabundle[1:], leaf)
    if len(set(encoded)) != len(encoded):
        raise refused(AttestationCode.CHAIN_STRUCTURE, "cabundle: a certificate stands in the chain twice")
    links = [_read_root(root.certificate_der)]
    links += [_read(der, _where(index, len(encoded))) for index, der in enumerate(encoded[1:], start=1)]
    for index, link in enumerate(links[:-1]):
        _check_ca(link, below=len(links) - 2 - index)
    _check_leaf(links[-1])
    for parent, child in pairwise(links):
        _check_issued(child, parent)
    return Chain(links=tuple(links))


def _where(index: int, count: int) -> str:
    if index == count - 1:
        return "leaf certificate"
    return f"cabundle[{index}]"


def _check_root(found: bytes, root: TrustRoot) -> None:
    if found == root.certificate_der:
        return
    fingerprint = sha256(found).hexdigest()
    partition = AWS_ROOTS.get(fingerprint)
    what = f"AWS's root of the partition {partition}" if partition else f"SHA-256 {fingerprint[:16]}..."
    raise refused(
        AttestationCode.CHAIN_ROOT,
        f"cabundle[0]: expected the root {root.name} ({root.trust}, SHA-256 {root.fingerprint[:16]}...), "
        f"found {what}",
    )


@lru_cache(maxsize=4)  # a client has one root, or two; reading it takes a fifth of the reading of a chain
def _read_root(der: bytes) -> Link:
    return _read(der, "root certificate")


def _read(der: bytes, where: str) -> Link:
    """Read a certificate in strict DER, version 3, with a P-384 key and an ecdsa-with-SHA384 signature."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        version, extensions = certificate.version, certificate.extensions
        signed = certificate.tbs_certificate_bytes
        key = certificate.public_key()
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _UNREADABLE as exc:
        raise refused(
            AttestationCode.CHAIN_CERTIFICATE, f"{where}: expected a DER certificate ({exc})"
        ) from exc
    if version is not x509.Version.v3:
        raise refused(AttestationCode.CHAIN_CERTIFICATE, f"{where}: expected X.509 v3, found {version.name}")
    # cryptography returns the signed part encoded again. It must equal the bytes in ``der`` after the
    # four bytes of the outer SEQUENCE; no P-384 certificate is small enough for a shorter header.
    tail = der[4 + len(signed) :]
    if der[4 : 4 + len(signed)] != signed or certificate.serial_number <= 0:
        raise refused(
            AttestationCode.CHAIN_CERTIFICATE, f"{where}: expected DER and a positive serial number"
        )
    _, _, algorithm, issuer_der, _, subject_der, public_key = _fields(signed)
    if not tail.startswith(_ECDSA_SHA384) or algorithm != _ECDSA_SHA384:
        raise refused(
            AttestationCode.CHAIN_ALGORITHM,
            f"{where}: expected a signature with ecdsa-with-SHA384, named alike inside and outside",
        )
    # A BIT STRING of whole octets: cryptography does not check the count of unused bits. r and s of
    # P-384 in DER are at most 104 bytes, so one byte of length is enough.
    signature, encoded = certificate.signature, tail[len(_ECDSA_SHA384) :]
    if len(signature) > _SIGNATURE_BYTES or encoded != bytes((3, 1 + len(signature), 0)) + signature:
        raise refused(
            AttestationCode.CHAIN_CERTIFICATE,
            f"{where}: expected a signature of whole octets, at most {_SIGNATURE_BYTES}",
        )
    is_p384 = public_key.startswith(_P384_PREFIX) and len(public_key) == _P384_BYTES
    if not is_p384 or not isinstance(key, ec.EllipticCurvePublicKey):
        raise refused(
            AttestationCode.CHAIN_ALGORITHM,
            f"{where}: expected a P-384 key, its curve named and its point uncompressed",
        )
    for extension in extensions:
        if extension.critical and extension.oid not in _CRITICAL_EXTENSIONS_WE_PROCESS:
            raise _constraint(
                where, f"critical extension {extension.oid.dotted_string} is not one we process"
            )
    return Link(
        where=where,
        certificate=certificate,
        extensions=extensions,
        key=key,
        signed=signed,
        issuer_der=issuer_der,
        subject_der=subject_der,
        not_before=not_before,
        not_after=not_after,
    )


def _fields(signed: bytes) -> list[bytes]:
    """Split the signed part of a v3 certificate into its first seven fields, each with its DER header.

    They are version, serial number, signature algorithm, issuer, validity, subject and public key (RFC 5280
    section 4.1). The caller has had the bytes parsed as DER, so the lengths in them hold.
    """
    fields = []
    offset, _ = _content(signed, 0)
    for _ in range(7):
        _, end = _content(signed, offset)
        fields.append(signed[offset:end])
        offset = end
    return fields


def _content(der: bytes, offset: int) -> tuple[int, int]:
    """Return where the content of the element at ``offset`` begins and ends."""
    first = der[offset + 1]
    if first < 0x80:
        return offset + 2, offset + 2 + first
    start = offset + 2 + (first & 0x7F)
    return start, start + int.from_bytes(der[offset + 2 : start])


def _check_ca(link: Link, *, below: int) -> None:
    """Check that a certificate may issue others, with ``below`` CA certificates between it and the leaf."""
    basic = link.extension(x509.BasicConstraints)
    if basic is None or not basic.critical or not basic.value.ca:
        raise _constraint(link.where, "expected critical BasicConstraints with CA=TRUE")
    limit = basic.value.path_length
    if limit is not None and below > limit:
        raise _constraint(link.where, f"pathLen {limit}, but {below} CA certificates follow")
    usage = link.extension(x509.KeyUsage)
    if usage is None or not usage.value.key_cert_sign:
        raise _constraint(link.where, "expected KeyUsage with keyCertSign")


def _check_leaf(link: Link) -> None:
    """Check that a certificate may sign documents, and no certificates."""
    basic = link.extension(x509.BasicConstraints)
    if basic is not None and basic.value.ca:
        raise _constraint(link.where, "expected CA=FALSE")
    usage = link.extension(x509.KeyUsage)
    if usage is None or not usage.value.digital_signature or usage.value.key_cert_sign:
        raise _constraint(link.where, "expected KeyUsage with digitalSignature and without keyCertSign")


def _check_issued(child: Link, parent: Link) -> None:
    """Check that ``child`` names ``parent`` as its issuer, and that the parent's key signed it."""
    # Compare the names as they are encoded: AWS orders the attributes differently from level to level.
    if child.issuer_der != parent.subject_der:
        raise refused(
            AttestationCode.CHAIN_NAME, f"{child.where}: its issuer is not the subject of {parent.where}"
        )
    authority = child.extension(x509.AuthorityKeyIdentifier)
    own = parent.extension(x509.SubjectKeyIdentifier)
    if (
        authority is not None
        and own is not None
        and authority.value.key_identifier is not None
        and authority.value.key_identifier != own.value.digest
    ):
        raise refused(
            AttestationCode.CHAIN_NAME, f"{child.where}: its authority key identifier is not {parent.where}'s"
        )
    try:
        # Not verify_directly_issued_by, which decodes the parent's key anew: a tenth of all the time.
        parent.key.verify(child.certificate.signature, child.signed, ec.ECDSA(SHA384()))
    except InvalidSignature:
        raise refused(
            AttestationCode.CHAIN_SIGNATURE, f"{child.where}: not signed by {parent.where}"
        ) from None


def _constraint(where: str, problem: str) -> AttestationError:
    return refused(AttestationCode.CHAIN_CONSTRAINT, f"{where}: {problem}")
