"""The trust roots: each one decides the trust in the documents that it signs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enclavectl.attestation.policy import Policy
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.trust import AWS_ROOTS, Trust

# A certificate in PEM has about 1 KiB; even chains with text stay below this.
_MAX_ROOT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRoot:
    """One root certificate and the trust in its signatures.

    Only a pinned AWS root can have the trust ``nitro``, and an AWS root can have no other.

    Raises:
        UsageError: that rule is broken, or ``certificate_der`` is not a certificate.
    """

    certificate_der: bytes
    trust: Trust
    name: str

    def __post_init__(self) -> None:
        """Check the rule above."""
        try:
            x509.load_der_x509_certificate(self.certificate_der)
        except (ValueError, x509.InvalidVersion) as exc:
            raise UsageError(f"root {self.name}: expected a DER certificate ({exc})") from exc
        if self.trust not in (Trust.NITRO, Trust.SIMULATED):
            raise UsageError(
                f"root {self.name}: no root can stand for {self.trust}; expected nitro or simulated"
            )
        if (self.trust is Trust.NITRO) != (self.fingerprint in AWS_ROOTS):
            raise UsageError(
                f"root {self.name}: trust {self.trust} does not fit the certificate {self.fingerprint}",
                hint=f"AWS's roots are {', '.join(AWS_ROOTS)}; they, and only they, stand for nitro.",
            )

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the DER, in hex."""
        return sha256(self.certificate_der).hexdigest()

    @classmethod
    def from_pem(cls, pem: bytes, *, trust: Trust, name: str) -> TrustRoot:
        """Read the root in a PEM file that holds exactly one certificate.

        Raises:
            UsageError: the file has none or several, or the class's rule is broken.
        """
        return cls(certificate_der=_one_certificate(pem, name), trust=trust, name=name)

    @classmethod
    def from_operator(cls, pem: bytes, *, file: str) -> TrustRoot:
        """Read the root that an operator names by a PEM file with exactly one certificate.

        A root of AWS is known by its pinned fingerprint: it stands for ``nitro`` and has its partition's
        name. Any other is a development root, which has the file's name.

        Raises:
            UsageError: the file holds no certificate or several.
        """
        der = _one_certificate(pem, file)
        partition = AWS_ROOTS.get(sha256(der).hexdigest())
        if partition is None:
            return cls(certificate_der=der, trust=Trust.SIMULATED, name=file)
        return cls(certificate_der=der, trust=Trust.NITRO, name=partition)


@dataclass(frozen=True, slots=True)
class EmulatorRoot:
    """What stands in a root's place for QEMU's documents: their signature and certificates are zeros.

    It has no certificate and no field, so it cannot be made to stand for a signer, and no root can be made to
    stand for it. Only the backend ``qemu`` and ``root_for`` make one.
    """

    @property
    def trust(self) -> Trust:
        """Always ``emulated``."""
        return Trust.EMULATED

    @property
    def name(self) -> str:
        """The name in records."""
        return "none: QEMU emulates the NSM"

    @property
    def fingerprint(self) -> str:
        """Zeros, which are the SHA-256 of no certificate."""
        return "0" * 64


Root = TrustRoot | EmulatorRoot
"""What evidence is held to: a root that signs, or the emulator, which does not."""


def _one_certificate(pem: bytes, name: str) -> bytes:
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise UsageError(
            f"root {name}: expected a certificate in PEM, found none",
            hint=f"if it is one in DER: openssl x509 -inform DER -in '{name}' -out root.pem",
        )
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as exc:
        raise UsageError(f"root {name}: expected a PEM certificate ({exc})") from exc
    if len(certificates) != 1:
        raise UsageError(f"root {name}: expected one certificate, found {len(certificates)}")
    return certificates[0].public_bytes(Encoding.DER)


@cache
def aws_nitro_root() -> TrustRoot:
    """Return AWS's root G1 of the commercial partition, as packaged and pinned."""
    pem = (files("enclavectl.attestation") / "roots" / "aws-nitro-g1.pem").read_bytes()
    return TrustRoot.from_pem(pem, trust=Trust.NITRO, name="aws")


def read_root(path: Path) -> TrustRoot:
    """Read the root that an operator names by its PEM file.

    Raises:
        UsageError: the file cannot be read, or holds no certificate or several.
    """
    pem = read_bounded(path, _MAX_ROOT_BYTES, what="root certificate")
    return TrustRoot.from_operator(pem, file=str(path))


def root_for(policy: Policy | None, given: TrustRoot | None) -> Root:
    """Return the root for an enclave that is not of this host's own: the given one, else AWS's.

    A policy that accepts ``emulated`` accepts nothing else, and means QEMU's unsigned documents.

    Raises:
        UsageError: such a policy, and a root beside it.
    """
    if policy is None or Trust.EMULATED not in policy.accept:
        return aws_nitro_root() if given is None else given
    if given is not None:
        raise UsageError(
            f"root {given.name}: expected none, since the policy accepts emulated: QEMU signs nothing",
            hint="leave --root out, or name a policy that accepts what the root signs",
        )
    return EmulatorRoot()
