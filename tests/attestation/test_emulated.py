"""QEMU's unsigned documents: who may accept them, and that nothing signed ever takes their way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta

import cbor2
import pytest

from enclavectl.attestation import (
    AttestationCode,
    EmulatorRoot,
    Policy,
    PolicyCode,
    Release,
    Root,
    Trust,
    TrustRoot,
    VerifiedDocument,
    aws_nitro_root,
    examine_archived,
    root_for,
    verify,
)
from enclavectl.attestation.emulated import parse_emulated, unproven_claims
from enclavectl.errors import AttestationError, UsageError
from tests.forge import MODULE_ID, NONCE, NOW, PCRS, RELEASE, USER_DATA, EnclaveForge

ZEROS = bytes(64)
EMULATED = Policy(accept=frozenset({Trust.EMULATED}), releases=(RELEASE,))


def as_qemu_writes(**changed: object) -> bytes:
    """As hw/virtio/virtio-nsm.c builds it: definite maps, whole seconds, zeros."""
    envelope: dict[str, object] = {"protected": b"\xa1\x01\x20", "unprotected": {}, "signature": ZEROS}
    claims: dict[str, object] = {
        "module_id": MODULE_ID,
        "digest": "SHA384",
        "timestamp": int(NOW.timestamp()) * 1000,
        "pcrs": PCRS,
        "certificate": ZEROS,
        "cabundle": [ZEROS],
        "public_key": None,
        "user_data": USER_DATA,
        "nonce": NONCE,
    }
    envelope |= {key: value for key, value in changed.items() if key in envelope}
    claims |= {key: value for key, value in changed.items() if key in claims}
    payload = cbor2.dumps(claims)
    return cbor2.dumps([envelope["protected"], envelope["unprotected"], payload, envelope["signature"]])


def judged(
    document: bytes,
    policy: Policy = EMULATED,
    root: Root | None = None,
    age: timedelta = timedelta(seconds=2),
) -> VerifiedDocument:
    root = EmulatorRoot() if root is None else root
    return verify(document, policy, root=root, nonce=NONCE, user_data=USER_DATA, now=NOW + age)


def refusal(judge: Callable[[], object]) -> str:
    with pytest.raises(AttestationError) as caught:
        judge()
    return caught.value.code


def test_a_policy_for_it_accepts_what_qemu_wrote() -> None:
    found = judged(as_qemu_writes())
    assert (found.trust, found.release, found.chain) == (Trust.EMULATED, "1.0", ())
    assert found.root_fingerprint == "0" * 64
    assert found.ends == found.timestamp + timedelta(hours=3)
    assert examine_archived(as_qemu_writes(), None, root=EmulatorRoot()).trust is Trust.EMULATED


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"nonce": bytes(32)}, AttestationCode.NONCE),
        ({"user_data": bytes(48)}, AttestationCode.USER_DATA),
        ({"pcrs": {**PCRS, 0: b"\x99" * 48}}, AttestationCode.PCR_MISMATCH),
        ({"pcrs": {**PCRS, 0: bytes(48), 1: bytes(48), 2: bytes(48)}}, AttestationCode.DEBUG_MODE),
        ({"timestamp": int(NOW.timestamp()) * 1000 - 3_600_000}, AttestationCode.TOO_OLD),
        ({"timestamp": int(NOW.timestamp()) * 1000 + 3_600_000}, AttestationCode.FROM_THE_FUTURE),
        ({"digest": "SHA512"}, AttestationCode.FIELD),
        ({"unprotected": {4: b"k"}}, AttestationCode.COSE_STRUCTURE),
    ],
)
def test_every_other_rule_holds(changed: dict[str, object], code: str) -> None:
    assert refusal(lambda: judged(as_qemu_writes(**changed))) == code


@pytest.mark.parametrize(
    "changed",
    [
        {"signature": bytes(96)},
        {"signature": bytes(63) + b"\1"},
        {"signature": None},
        {"protected": bytes.fromhex("a1013822")},
        {"protected": b""},
        {"certificate": bytes(65)},
        {"certificate": b"\1" + bytes(63)},
        {"cabundle": [ZEROS, ZEROS]},
        {"cabundle": [b"\1" + bytes(63)]},
    ],
)
def test_only_the_emulators_zeros_pass(changed: dict[str, object]) -> None:
    assert refusal(lambda: judged(as_qemu_writes(**changed))) == AttestationCode.EMULATOR


def test_a_signed_document_never_passes_for_an_unsigned_one(forge: EnclaveForge) -> None:
    assert refusal(lambda: judged(forge.genuine())) == AttestationCode.EMULATOR
    assert refusal(lambda: parse_emulated(forge.genuine())) == AttestationCode.EMULATOR


@pytest.mark.parametrize("accepted", [Trust.NITRO, Trust.SIMULATED])
def test_every_other_policy_refuses_it(accepted: Trust) -> None:
    policy = Policy(accept=frozenset({accepted}), releases=(RELEASE,))
    assert refusal(lambda: judged(as_qemu_writes(), policy)) == AttestationCode.TRUST_NOT_ACCEPTED


@pytest.mark.parametrize("is_aws", [True, False])
def test_no_signing_root_takes_this_way(forge: EnclaveForge, is_aws: bool) -> None:
    """AWS's root and a development root: whatever the policy, their documents are signed or refused."""
    root = aws_nitro_root() if is_aws else forge.root
    own = Policy(accept=frozenset({root.trust}), releases=(RELEASE,))
    with pytest.raises(AttestationError) as caught:
        judged(as_qemu_writes(), own, root)
    assert caught.value.code == AttestationCode.COSE_ALGORITHM
    assert str(caught.value.hint).startswith("QEMU's documents are unsigned")
    assert refusal(lambda: judged(as_qemu_writes(), root=root)) == AttestationCode.TRUST_NOT_ACCEPTED
    assert refusal(lambda: examine_archived(as_qemu_writes(), None, root=root))


def test_no_certificate_can_stand_for_it(forge: EnclaveForge) -> None:
    """By the type: the emulator's root has no field to put one in, and a root no way to the trust."""
    assert not fields(EmulatorRoot)
    assert not issubclass(EmulatorRoot, TrustRoot)
    for der in (aws_nitro_root().certificate_der, forge.root.certificate_der):
        with pytest.raises(UsageError, match="no root can stand for emulated"):
            TrustRoot(certificate_der=der, trust=Trust.EMULATED, name="x")
    with pytest.raises((AttributeError, TypeError)):
        EmulatorRoot().trust = Trust.NITRO  # type: ignore[misc]


@pytest.mark.parametrize("other", [Trust.NITRO, Trust.SIMULATED])
def test_it_is_never_beside_another(other: Trust, forge: EnclaveForge) -> None:
    with pytest.raises(UsageError) as caught:
        Policy(accept=frozenset({Trust.EMULATED, other}), releases=(RELEASE,))
    assert caught.value.code == PolicyCode.CONTRADICTION
    with pytest.raises(UsageError, match="expected none"):
        root_for(EMULATED, forge.root)


def test_only_a_policy_that_says_so_gets_it(forge: EnclaveForge) -> None:
    release = Release(name="1.0", pcrs=PCRS)
    nitro = Policy(accept=frozenset({Trust.NITRO}), releases=(release,))
    assert isinstance(root_for(EMULATED, None), EmulatorRoot)
    assert root_for(nitro, None) == root_for(None, None) == aws_nitro_root()
    assert root_for(nitro, forge.root) == root_for(None, forge.root) == forge.root


def test_what_a_document_says_is_read_of_either_kind(forge: EnclaveForge) -> None:
    for document in (as_qemu_writes(), forge.genuine()):
        claims = unproven_claims(document)
        assert (claims.module_id, claims.nonce) == (MODULE_ID, NONCE)
    with pytest.raises(AttestationError):
        unproven_claims(b"neither")
