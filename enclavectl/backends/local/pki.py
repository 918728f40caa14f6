"""A PKI in the shape of AWS's, with a root made on this machine.

The shapes (names, lifetimes, extensions, what is critical) are those measured on the chains that AWS
signs, so that one verifier with one set of rules reads both. What tells them apart is the root, and
its name says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from enclavectl.errors import UsageError

ROOT_NAME = "enclavectl development root (simulated, not AWS)"
ROOT_LIFETIME = timedelta(days=30 * 365)
INTERMEDIATE_LIFETIME = timedelta(hours=24)
LEAF_LIFETIME = timedelta(hours=3)
REISSUE_BEFORE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A certificate and the key that it is for."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def certificate_der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevelopmentRoot(Identity):
    """The root of the simulated PKI. A reader of its key can forge every local enclave."""

    @classmethod
    def create(cls, now: datetime) -> DevelopmentRoot:
        """Return a new root, valid for 30 years from ``now``."""
        key = ec.generate_private_key(ec.SECP384R1())
        name = _name(ROOT_NAME)
        builder = (
            _builder(name, name, key.public_key(), now, now + ROOT_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_key_usage(digital_signature=True, certificates=True, crls=True), critical=True)
        )
        return cls(key=key, certificate=builder.sign(key, SHA384()))

    @classmethod
    def from_pem(cls, key_pem: bytes, certificate_pem: bytes) -> DevelopmentRoot:
        """Return the root whose two halves ``key_pem`` and ``certificate_pem`` wrote.

        Raises:
            UsageError: one cannot be read, or they do not belong together.
        """
        try:
            key = load_pem_private_key(key_pem, password=None)
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            public_key = certificate.public_key()
        except (ValueError, TypeError, x509.InvalidVersion) as exc:
            raise UsageError(
                f"development root: cannot be read ({exc})", hint="Delete it; the next run makes a new one."
            ) from exc
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != public_key:
            raise UsageError(
                "development root: the key does not belong to the certificate",
                hint="Delete both; the next run makes new ones.",
            )
        return cls(key=key, certificate=certificate)

    @property
    def key_pem(self) -> bytes:
        """The private key, unencrypted PKCS #8: for a file that only its owner can read."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def issue_intermediate(root: DevelopmentRoot, module_id: str, now: datetime) -> Identity:
    """Issue the certificate that AWS calls the instance certificate: it may issue leaves for a day."""
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = root.certificate
    builder = (
        _builder(
            _name(f"{module_id.partition('-enc')[0]}.local.enclavectl"),
            issuer.subject,
            key.public_key(),
            now,
            min(now + INTERMEDIATE_LIFETIME, issuer.not_valid_after_utc),
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(certificates=True), critical=True)
    )
    return Identity(key=key, certificate=builder.sign(root.key, SHA384()))


def issue_leaf(
    intermediate: Identity, module_id: str, now: datetime, lifetime: timedelta = LEAF_LIFETIME
) -> Identity:
    """Issue the certificate of one enclave, with a new key, for ``lifetime``: as AWS three hours."""
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = intermediate.certificate
    builder = (
        _builder(
            _name(f"{module_id}.local.enclavectl"),
            issuer.subject,
            key.public_key(),
            now,
            min(now + lifetime, issuer.not_valid_after_utc),
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, non_repudiation=True), critical=False)
    )
    return Identity(key=key, certificate=builder.sign(intermediate.key, SHA384()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    # Certificates count in whole seconds. AWS does not backdate the start, so neither does this.
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start.replace(microsecond=0))
        .not_valid_after(end.replace(microsecond=0))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "enclavectl"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "simulated"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(
    *,
    digital_signature: bool = False,
    non_repudiation: bool = False,
    certificates: bool = False,
    crls: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=non_repudiation,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=crls,
        encipher_only=False,
        decipher_only=False,
    )
