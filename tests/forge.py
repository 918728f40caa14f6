"""EnclaveForge: genuine documents, and forgeries that differ from them in one chosen place.

A genuine document is SimulatedNsm's own. A forgery starts from one: its fields become a Blueprint
with a chain of the forge's making below the same root, one edit changes it, and it is signed again,
so that the edit is the only thing wrong with it. Edits after signing are plain edits of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from enclavectl.attestation import Policy, Release, Trust, TrustRoot, VerifiedDocument, verify
from enclavectl.backends.local.nsm import SimulatedNsm
from enclavectl.backends.local.pki import DevelopmentRoot

NOW = datetime(2026, 5, 4, 12, 0, 0, 123000, tzinfo=UTC)
MODULE_ID = "i-0123456789abcdef0-enc0123456789abcdef"
NONCE = bytes(range(32))
USER_DATA = bytes(range(48))
PCRS = {0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48, 8: b"\x18" * 48}
RELEASE = Release(name="1.0", pcrs=PCRS)


class Raw(bytes):
    """CBOR that is already encoded."""


def encode(value: object) -> bytes:
    return bytes(value) if isinstance(value, Raw) else cbor2.dumps(value)


@dataclass
class CertificatePlan:
    """A certificate before it is signed; every part can be edited."""

    subject: x509.Name
    issuer: x509.Name
    key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey
    signer: ec.EllipticCurvePrivateKey
    not_before: datetime
    not_after: datetime
    extensions: list[tuple[x509.ExtensionType, bool]]
    digest: SHA256 | SHA384 = field(default_factory=SHA384)
    tamper: Callable[[bytes], bytes] = bytes

    def replace(self, extension: x509.ExtensionType, *, critical: bool) -> None:
        self.drop(type(extension))
        self.extensions.append((extension, critical))

    def drop(self, kind: type[x509.ExtensionType]) -> None:
        self.extensions = [pair for pair in self.extensions if not isinstance(pair[0], kind)]

    def build(self) -> bytes:
        builder = x509.CertificateBuilder(self.issuer, self.subject, self.key.public_key(), 7)
        builder = builder.not_valid_before(self.not_before).not_valid_after(self.not_after)
        for extension, critical in self.extensions:
            builder = builder.add_extension(extension, critical=critical)
        return self.tamper(builder.sign(self.signer, self.digest).public_bytes(Encoding.DER))


@dataclass
class Blueprint:
    """A document before it is signed; every part can be edited."""

    fields: list[tuple[object, object]]
    root: bytes
    intermediates: list[CertificatePlan]
    leaf: CertificatePlan
    definite: bool = False
    protected: object = bytes.fromhex("a1013822")
    unprotected: object = field(default_factory=dict)
    signed_protected: bytes = bytes.fromhex("a1013822")
    signer: ec.EllipticCurvePrivateKey | None = None
    bundle: list[bytes] | None = None

    def set(self, name: object, value: object) -> None:
        self.fields = [(key, value if key == name else old) for key, old in self.fields]

    def drop(self, name: object) -> None:
        self.fields = [pair for pair in self.fields if pair[0] != name]

    def payload(self) -> bytes:
        pairs = [encode(key) + encode(value) for key, value in self.fields]
        if self.definite:
            return bytes((0xA0 | len(pairs),)) + b"".join(pairs)
        return b"\xbf" + b"".join(pairs) + b"\xff"

    def build(self) -> bytes:
        bundle = self.bundle or [self.root, *(plan.build() for plan in self.intermediates)]
        for name, value in (("certificate", self.leaf.build()), ("cabundle", bundle)):
            self.fields = [(key, value if key == name and old is None else old) for key, old in self.fields]
        payload = self.payload()
        signer = self.signer or self.leaf.key
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        signature = sign(signer, self.signed_protected, payload)
        return b"\x84" + b"".join(
            encode(part) for part in (self.protected, self.unprotected, payload, signature)
        )


def sign(key: ec.EllipticCurvePrivateKey, protected: bytes, payload: bytes) -> bytes:
    to_be_signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = utils.decode_dss_signature(key.sign(to_be_signed, ec.ECDSA(SHA384())))
    return r.to_bytes(48) + s.to_bytes(48)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def key_usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in _USAGES})


class EnclaveForge:
    """One simulated enclave at NOW, and everything an attacker could make of its documents."""

    def __init__(self, pcrs: dict[int, bytes] = PCRS, now: datetime = NOW) -> None:
        self.now = now
        self.development_root = DevelopmentRoot.create(now - timedelta(days=30))
        self.root = TrustRoot(
            certificate_der=self.development_root.certificate_der, trust=Trust.SIMULATED, name="forge"
        )
        self.nsm = SimulatedNsm(self.development_root, MODULE_ID, pcrs, lambda: self.now)

    def genuine(
        self,
        nonce: bytes | None = NONCE,
        user_data: bytes | None = USER_DATA,
        public_key: bytes | None = None,
    ) -> bytes:
        arguments = {"nonce": nonce, "user_data": user_data, "public_key": public_key}
        answer = cbor2.loads(self.nsm.handle(cbor2.dumps({"Attestation": arguments})))
        document = answer["Attestation"]["document"]
        assert isinstance(document, bytes)
        return document

    def blueprint(self) -> Blueprint:
        fields: dict[object, object] = cbor2.loads(cbor2.loads(self.genuine())[2])
        fields["certificate"] = fields["cabundle"] = None
        root = self.development_root
        top = self._intermediate("regional.test", root.certificate.subject, root.key, 1)
        assert isinstance(top.key, ec.EllipticCurvePrivateKey)
        low = self._intermediate("instance.test", top.subject, top.key, 0)
        assert isinstance(low.key, ec.EllipticCurvePrivateKey)
        leaf = CertificatePlan(
            subject=named(f"{MODULE_ID}.test"),
            issuer=low.subject,
            key=new_key(),
            signer=low.key,
            not_before=NOW.replace(microsecond=0),
            not_after=NOW.replace(microsecond=0) + timedelta(hours=3),
            extensions=[
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (key_usage("digital_signature", "content_commitment"), False),
            ],
        )
        return Blueprint(
            fields=list(fields.items()), root=root.certificate_der, intermediates=[top, low], leaf=leaf
        )

    def forged(self, edit: Callable[[Blueprint], object]) -> bytes:
        plan = self.blueprint()
        edit(plan)
        return plan.build()

    def verify(
        self,
        document: bytes,
        policy: Policy | None = None,
        *,
        root: TrustRoot | None = None,
        nonce: bytes = NONCE,
        user_data: bytes = USER_DATA,
        now: datetime = NOW,
    ) -> VerifiedDocument:
        return verify(
            document,
            policy or accepting(RELEASE),
            root=root or self.root,
            nonce=nonce,
            user_data=user_data,
            now=now,
        )

    @staticmethod
    def _intermediate(
        name: str, issuer: x509.Name, signer: ec.EllipticCurvePrivateKey, path_length: int
    ) -> CertificatePlan:
        key = new_key()
        return CertificatePlan(
            subject=named(name),
            issuer=issuer,
            key=key,
            signer=signer,
            not_before=NOW.replace(microsecond=0) - timedelta(days=path_length),
            not_after=NOW.replace(microsecond=0) + timedelta(days=1),
            extensions=[
                (x509.BasicConstraints(ca=True, path_length=path_length), True),
                (key_usage("key_cert_sign"), True),
                (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
                (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            ],
        )


def accepting(*releases: Release, unsafe_allow_debug: bool = False) -> Policy:
    return Policy(
        accept=frozenset({Trust.SIMULATED}), releases=releases, unsafe_allow_debug=unsafe_allow_debug
    )
