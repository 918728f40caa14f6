"""Forged chains: one attack per rule on certificates, their times and their names."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID

from enclavectl.attestation import AttestationCode
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.errors import AttestationError
from tests.der import compressed_point, long_signature, null_parameters, without_version
from tests.forge import MODULE_ID, NOW, Blueprint, EnclaveForge, key_usage, named, new_key

Code = AttestationCode
Edit = Callable[[Blueprint], object]


def ed25519_leaf(plan: Blueprint) -> None:
    plan.leaf.key = Ed25519PrivateKey.generate()
    plan.signer = new_key()


def tiny_leaf(plan: Blueprint) -> None:
    """Below 256 bytes, so that its outer length takes one byte less than every P-384 certificate's."""
    ed25519_leaf(plan)
    plan.intermediates[-1].subject = plan.leaf.issuer = named("x")
    plan.leaf.subject = named("y")
    plan.leaf.extensions = []
    plan.leaf.signer = ec.generate_private_key(ec.SECP256R1())
    plan.leaf.digest = SHA256()
    assert len(plan.leaf.build()) < 256


def attacker_root(plan: Blueprint) -> None:
    """A whole chain below a root of the attacker's own, which the bundle brings along."""
    mine = DevelopmentRoot.create(NOW)
    plan.root = mine.certificate_der
    plan.intermediates[0].signer = mine.key


def attacker_root_behind_the_real_one(plan: Blueprint) -> None:
    """The real root first, then the attacker's, as if anything in the bundle were trusted."""
    mine = DevelopmentRoot.create(NOW)
    plan.intermediates[0].issuer = mine.certificate.subject
    plan.intermediates[0].signer = mine.key
    plan.intermediates[0].drop(x509.AuthorityKeyIdentifier)
    plan.bundle = [plan.root, mine.certificate_der, *(item.build() for item in plan.intermediates)]


def leaf_issues_another_leaf(plan: Blueprint) -> None:
    """A genuine leaf, whose key an attacker holds, used as if it were a CA."""
    genuine = plan.leaf.build()
    plan.bundle = [plan.root, *(item.build() for item in plan.intermediates), genuine]
    assert isinstance(plan.leaf.key, ec.EllipticCurvePrivateKey)
    plan.leaf.issuer, plan.leaf.signer = plan.leaf.subject, plan.leaf.key
    plan.leaf.key = new_key()


def repeated(plan: Blueprint) -> None:
    built = [item.build() for item in plan.intermediates]
    plan.bundle = [plan.root, built[0], built[0], built[1]]


def sibling_order(plan: Blueprint) -> None:
    built = [item.build() for item in plan.intermediates]
    plan.bundle = [plan.root, *reversed(built)]


def leaf_in_the_bundle(plan: Blueprint) -> None:
    leaf = plan.leaf.build()
    plan.bundle = [plan.root, leaf]
    plan.set("certificate", leaf)


def leaf_on(curve: ec.EllipticCurve) -> Edit:
    def edit(plan: Blueprint) -> None:
        plan.leaf.key = ec.generate_private_key(curve)
        plan.signer = new_key()

    return edit


def wrong_authority(plan: Blueprint) -> None:
    stranger = x509.AuthorityKeyIdentifier.from_issuer_public_key(new_key().public_key())
    plan.intermediates[1].replace(stranger, critical=False)


def older_leaf(plan: Blueprint) -> None:
    """A leaf that is valid now, give or take the skew, but was not yet when the document was made."""
    plan.leaf.not_before += timedelta(minutes=2)
    plan.set("timestamp", int((NOW - timedelta(minutes=1)).timestamp() * 1000))


def younger_document(plan: Blueprint) -> None:
    """A leaf that is over, give or take the skew, and a document from after its end."""
    plan.leaf.not_before = NOW - timedelta(hours=3)
    plan.leaf.not_after = NOW - timedelta(seconds=90)
    timestamp(timedelta(seconds=60))(plan)


def intermediate_expired(plan: Blueprint) -> None:
    plan.intermediates[0].not_before = NOW - timedelta(days=9)
    plan.intermediates[0].not_after = NOW - timedelta(days=1)


def too_old(plan: Blueprint) -> None:
    shifted_leaf(timedelta(hours=-1))(plan)
    timestamp(timedelta(minutes=-5, seconds=-1))(plan)


def timestamp(shift: timedelta) -> Edit:
    return lambda plan: plan.set("timestamp", int((NOW + shift).timestamp() * 1000))


def shifted_leaf(shift: timedelta) -> Edit:
    def edit(plan: Blueprint) -> None:
        plan.leaf.not_before += shift
        plan.leaf.not_after += shift

    return edit


def usage(*names: str) -> Edit:
    return lambda plan: plan.leaf.replace(key_usage(*names), critical=False)


def leaf_with_path_length(plan: Blueprint) -> None:
    """CA=FALSE with pathLen 0, which no builder writes."""
    plan.leaf.drop(x509.BasicConstraints)
    plan.leaf.extensions.append(
        (x509.UnrecognizedExtension(x509.BasicConstraints.oid, bytes.fromhex("3003020100")), True)
    )


def authority(index: int, *, ca: bool, path_length: int | None, critical: bool) -> Edit:
    constraints = x509.BasicConstraints(ca=ca, path_length=path_length)
    return lambda plan: plan.intermediates[index].replace(constraints, critical=critical)


FORGERIES: dict[str, tuple[Edit, Code]] = {
    # Chain: root
    "attacker's root": (attacker_root, Code.CHAIN_ROOT),
    "attacker's root behind the real one": (attacker_root_behind_the_real_one, Code.CHAIN_SIGNATURE),
    "root with a trailing byte": (lambda p: setattr(p, "root", p.root + b"\0"), Code.CHAIN_ROOT),
    "root at the wrong end": (
        lambda p: setattr(p, "bundle", [*(i.build() for i in reversed(p.intermediates)), p.root]),
        Code.CHAIN_ROOT),
    # Chain: shape
    "certificate twice": (repeated, Code.CHAIN_STRUCTURE),
    "leaf in the bundle": (leaf_in_the_bundle, Code.CHAIN_STRUCTURE),
    "intermediates swapped": (sibling_order, Code.CHAIN_CONSTRAINT),
    "intermediate missing": (lambda p: p.intermediates.pop(), Code.CHAIN_NAME),
    # Chain: encoding
    "certificate with a trailing byte": (
        lambda p: setattr(p.leaf, "tamper", lambda der: der + b"\0"), Code.CHAIN_CERTIFICATE),
    "certificate cut": (lambda p: setattr(p.leaf, "tamper", lambda der: der[:-1]), Code.CHAIN_CERTIFICATE),
    "certificate is noise": (lambda p: p.set("certificate", bytes(64)), Code.CHAIN_CERTIFICATE),
    "version 1 with extensions": (
        lambda p: setattr(p.leaf, "tamper", without_version), Code.CHAIN_CERTIFICATE),
    "tiny certificate": (tiny_leaf, Code.CHAIN_CERTIFICATE),
    "version 2": (
        lambda p: setattr(p.leaf, "tamper", lambda der: der.replace(
            b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01", 1)), Code.CHAIN_CERTIFICATE),
    "version 1": (
        lambda p: setattr(p.leaf, "tamper", lambda der: der.replace(
            b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x00", 1)), Code.CHAIN_CERTIFICATE),
    "version 9": (
        lambda p: setattr(p.leaf, "tamper", lambda der: der.replace(
            b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x08", 1)), Code.CHAIN_CERTIFICATE),
    "signature of 300 bytes": (
        lambda p: setattr(p.leaf, "tamper", long_signature), Code.CHAIN_CERTIFICATE),
    # Chain: algorithms
    "Ed25519 leaf": (ed25519_leaf, Code.CHAIN_ALGORITHM),
    "compressed point": (lambda p: setattr(p.leaf, "tamper", compressed_point), Code.CHAIN_ALGORITHM),
    "P-521 leaf": (leaf_on(ec.SECP521R1()), Code.CHAIN_ALGORITHM),
    "P-256 leaf": (leaf_on(ec.SECP256R1()), Code.CHAIN_ALGORITHM),
    "SHA-256 certificate": (lambda p: setattr(p.leaf, "digest", SHA256()), Code.CHAIN_ALGORITHM),
    "outer algorithm differs": (
        lambda p: setattr(p.leaf, "tamper", lambda der: b"\x04\x03\x02".join(der.rsplit(b"\x04\x03\x03", 1))),
        Code.CHAIN_ALGORITHM),
    "inner algorithm differs": (
        lambda p: setattr(p.leaf, "tamper", lambda der: der.replace(b"\x04\x03\x03", b"\x04\x03\x02", 1)),
        Code.CHAIN_ALGORITHM),
    "algorithm with NULL": (lambda p: setattr(p.leaf, "tamper", null_parameters), Code.CHAIN_CERTIFICATE),
    # Chain: names and signatures
    "issuer name": (lambda p: setattr(p.leaf, "issuer", named("someone else")), Code.CHAIN_NAME),
    "authority key identifier": (wrong_authority, Code.CHAIN_NAME),
    "leaf signed by a stranger": (lambda p: setattr(p.leaf, "signer", new_key()), Code.CHAIN_SIGNATURE),
    "intermediate signed by a stranger": (
        lambda p: setattr(p.intermediates[1], "signer", new_key()), Code.CHAIN_SIGNATURE),
    "certificate edited after signing": (
        lambda p: setattr(p.leaf, "tamper", lambda der: der.replace(b"i-0123", b"i-0124", 1)),
        Code.CHAIN_SIGNATURE),
    # Chain: constraints
    "pathLen 0 above a CA": (authority(0, ca=True, path_length=0, critical=True), Code.CHAIN_CONSTRAINT),
    "intermediate no CA": (authority(1, ca=False, path_length=None, critical=True), Code.CHAIN_CONSTRAINT),
    "CA not critical": (authority(1, ca=True, path_length=0, critical=False), Code.CHAIN_CONSTRAINT),
    "no basic constraints": (lambda p: p.intermediates[1].drop(x509.BasicConstraints), Code.CHAIN_CONSTRAINT),
    "no keyCertSign": (lambda p: p.intermediates[1].replace(key_usage("crl_sign"), critical=True),
                       Code.CHAIN_CONSTRAINT),
    "no key usage": (lambda p: p.intermediates[0].drop(x509.KeyUsage), Code.CHAIN_CONSTRAINT),
    "leaf is a CA": (
        lambda p: p.leaf.replace(x509.BasicConstraints(ca=True, path_length=None), critical=True),
        Code.CHAIN_CONSTRAINT),
    "leaf with pathLen": (leaf_with_path_length, Code.CHAIN_CERTIFICATE),
    "leaf signs certificates": (usage("digital_signature", "key_cert_sign"), Code.CHAIN_CONSTRAINT),
    "leaf without digitalSignature": (usage("content_commitment"), Code.CHAIN_CONSTRAINT),
    "leaf without key usage": (lambda p: p.leaf.drop(x509.KeyUsage), Code.CHAIN_CONSTRAINT),
    "leaf as CA": (leaf_issues_another_leaf, Code.CHAIN_CONSTRAINT),
    "unknown critical extension": (
        lambda p: p.leaf.replace(x509.UnrecognizedExtension(
            x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), critical=True), Code.CHAIN_CONSTRAINT),
    "critical extended key usage": (
        lambda p: p.leaf.replace(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True),
        Code.CHAIN_CONSTRAINT),
    # Times
    "leaf expired": (shifted_leaf(timedelta(hours=-3, minutes=-3)), Code.CHAIN_EXPIRED),
    "leaf not yet valid": (shifted_leaf(timedelta(minutes=3)), Code.CHAIN_NOT_YET_VALID),
    "intermediate expired": (intermediate_expired, Code.CHAIN_EXPIRED),
    "document before its leaf": (older_leaf, Code.LEAF_TIME),
    "document after its leaf": (younger_document, Code.LEAF_TIME),
    "from the future": (timestamp(timedelta(minutes=2, seconds=1)), Code.FROM_THE_FUTURE),
    "too old": (too_old, Code.TOO_OLD),
    # Signature and identity
    "signed by another key": (lambda p: setattr(p, "signer", new_key()), Code.SIGNATURE),
    "leaf of another enclave": (
        lambda p: setattr(p.leaf, "subject", named("i-0fedcba9876543210-enc0fedcba987654321.test")),
        Code.LEAF_NAME),
    "leaf's name is longer": (
        lambda p: setattr(p.leaf, "subject", named(MODULE_ID + "0.test")), Code.LEAF_NAME),
    "leaf without a name": (lambda p: setattr(p.leaf, "subject", x509.Name([])), Code.LEAF_NAME),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery(forge: EnclaveForge, name: str) -> None:
    edit, code = FORGERIES[name]
    with pytest.raises(AttestationError) as caught:
        forge.verify(forge.forged(edit))
    assert caught.value.code == code, caught.value.message
    assert caught.value.hint


def outlive(plan: Blueprint, now: datetime) -> None:
    """Make everything valid at ``now`` but the root."""
    for certificate in (*plan.intermediates, plan.leaf):
        certificate.not_before = now - timedelta(minutes=1)
        certificate.not_after = now + timedelta(hours=2)
    plan.set("timestamp", int(now.timestamp() * 1000))


def test_a_pinned_root_that_has_ended_vouches_for_nothing(forge: EnclaveForge) -> None:
    now = forge.development_root.certificate.not_valid_after_utc + timedelta(days=1)
    plan = forge.blueprint()
    outlive(plan, now)
    with pytest.raises(AttestationError, match="root certificate: valid until") as caught:
        forge.verify(plan.build(), now=now)
    assert caught.value.code == Code.CHAIN_EXPIRED


def test_a_pinned_root_that_has_not_begun_vouches_for_nothing(forge: EnclaveForge) -> None:
    now = forge.development_root.certificate.not_valid_before_utc - timedelta(days=1)
    plan = forge.blueprint()
    outlive(plan, now)
    with pytest.raises(AttestationError, match="root certificate: valid from") as caught:
        forge.verify(plan.build(), now=now)
    assert caught.value.code == Code.CHAIN_NOT_YET_VALID


def test_unused_bits_of_a_certificate_s_signature(forge: EnclaveForge) -> None:
    """DER allows unused bits that are zero; a signature has none. Found by flipping every byte."""
    plan = forge.blueprint()
    # Signing draws at random; half of all signatures end in a zero bit.
    leaf = next(der for der in iter(plan.leaf.build, b"") if der[-1] % 2 == 0)
    head, algorithm, signature = leaf.rpartition(bytes.fromhex("300a06082a8648ce3d040303"))
    assert signature[2] == 0
    plan.set("certificate", head + algorithm + signature[:2] + b"\1" + signature[3:])
    with pytest.raises(AttestationError, match="whole octets") as caught:
        forge.verify(plan.build())
    assert caught.value.code == Code.CHAIN_CERTIFICATE


def test_serial_numbers_are_positive(forge: EnclaveForge) -> None:
    """cryptography only warns; the forge's serial number is 7."""
    plan = forge.blueprint()
    plan.leaf.tamper = lambda der: der.replace(b"\x02\x01\x07\x30", b"\x02\x01\x00\x30", 1)
    document = plan.build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AttestationError, match="positive") as caught:
            forge.verify(document)
    assert caught.value.code == Code.CHAIN_CERTIFICATE
