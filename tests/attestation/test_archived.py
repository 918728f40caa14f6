"""Documents examined at their own time: a forge's here, AWS's where the shared vectors are."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from enclavectl.attestation import (
    ArchivedDocument,
    AttestationCode,
    Policy,
    Release,
    Trust,
    VerifiedDocument,
    aws_nitro_root,
    examine_archived,
    verify,
)
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import parse_claims
from enclavectl.errors import AttestationError
from tests.forge import NOW, PCRS, RELEASE, EnclaveForge, accepting, named

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors" / "attestation"
needs_vectors = pytest.mark.skipif(
    not (VECTORS / "index.json").exists(),
    reason="AWS-signed documents are other people's test data and stay in ../shared/vectors/attestation",
)
# Forgeries and misreadings that other projects publish, by what is wrong with each.
INVALID = {
    "bad_eternisai-remote-attestation-verifier_2024-07-23_5f42eb91.bin": AttestationCode.SIGNATURE,
    "bad_fortanix-rust-sgx_2021-09-09_15d4f223.bin": AttestationCode.SIGNATURE,
    "bad_veracruz-project-go-nitro-enclave-attestation-document_2022-11-09_7df2cdc0.bin": (
        AttestationCode.SIGNATURE
    ),
    "junk_fortanix-rust-sgx_0000-00-00_4164bfae.bin": AttestationCode.CHAIN_CERTIFICATE,
    "junk_worldcoin-pontifex_0000-00-00_808da3f0.bin": AttestationCode.COSE_ALGORITHM,
    "synth_brave-nitriding_1970-01-20_b689637d.bin": AttestationCode.COSE_STRUCTURE,
    "synth_marlinprotocol-oyster-monorepo_2024-12-13_d8032479.bin": AttestationCode.CHAIN_ROOT,
    "synth_marlinprotocol-oyster-monorepo_2025-04-30_a132128a.bin": AttestationCode.CHAIN_ROOT,
    "synth_worldcoin-bedrock_2025-08-29_bfd95b4b.bin": AttestationCode.CHAIN_ROOT,
}


def test_archived(forge: EnclaveForge) -> None:
    archived = examine_archived(forge.genuine(), accepting(RELEASE), root=forge.root)
    assert isinstance(archived, ArchivedDocument)
    assert not isinstance(archived, VerifiedDocument)
    assert (archived.release, archived.trust) == ("1.0", Trust.SIMULATED)
    assert examine_archived(forge.genuine(), None, root=forge.root).release is None


@pytest.mark.parametrize("policy", [accepting(Release(name="2.0", pcrs=PCRS | {0: b"\1" * 48})), None])
def test_archived_forgeries(forge: EnclaveForge, policy: Policy | None) -> None:
    genuine = forge.genuine()
    document = genuine if policy else genuine[:-1] + bytes([genuine[-1] ^ 1])
    with pytest.raises(AttestationError):
        examine_archived(document, policy, root=forge.root)


def test_archived_outside_its_leaf(forge: EnclaveForge) -> None:
    document = forge.forged(lambda plan: plan.set("timestamp", int(NOW.timestamp() + 4 * 3600) * 1000))
    with pytest.raises(AttestationError) as caught:
        examine_archived(document, None, root=forge.root)
    assert caught.value.code == AttestationCode.CHAIN_EXPIRED


def test_archived_with_the_leaf_of_another_enclave(forge: EnclaveForge) -> None:
    document = forge.forged(lambda plan: setattr(plan.leaf, "subject", named("i-0.test")))
    with pytest.raises(AttestationError) as caught:
        examine_archived(document, None, root=forge.root)
    assert caught.value.code == AttestationCode.LEAF_NAME


def test_archived_under_another_trust(forge: EnclaveForge) -> None:
    nitro = Policy(accept=frozenset({Trust.NITRO}), releases=(RELEASE,))
    with pytest.raises(AttestationError) as caught:
        examine_archived(forge.genuine(), nitro, root=forge.root)
    assert caught.value.code == AttestationCode.TRUST_NOT_ACCEPTED


def documents(category: str) -> list[tuple[dict[str, object], bytes]]:
    entries = json.loads((VECTORS / "index.json").read_text())["documents"]
    return [
        (entry, (VECTORS / entry["file"]).read_bytes()) for entry in entries if entry["category"] == category
    ]


def policy_for(pcrs: dict[int, bytes], *, unsafe_allow_debug: bool = False) -> Policy:
    releases = () if unsafe_allow_debug else (Release(name="theirs", pcrs=pcrs),)
    return Policy(accept=frozenset({Trust.NITRO}), releases=releases, unsafe_allow_debug=unsafe_allow_debug)


@needs_vectors
def test_every_aws_document_is_what_the_index_says() -> None:
    seen = {Trust.NITRO: 0, Trust.DEBUG: 0}
    for entry, document in documents("real"):
        archived = examine_archived(document, None, root=aws_nitro_root())
        seen[archived.trust] += 1
        assert archived.module_id == entry["module_id"]
        assert archived.timestamp.isoformat(timespec="microseconds") == entry["timestamp"]
        assert len(archived.pcrs) == entry["pcr_count"]
        nonzero = {str(index): value.hex() for index, value in archived.pcrs.items() if any(value)}
        assert nonzero == entry["pcrs"]
        assert (archived.trust is Trust.DEBUG) == entry["debug_mode"]
        assert (archived.public_key is not None) == entry["has_public_key"]
        assert (archived.nonce is not None) == entry["has_nonce"]
        assert len(archived.chain) == 5
    assert seen == {Trust.NITRO: 69, Trust.DEBUG: 57}


@needs_vectors
def test_every_aws_document_passes_its_own_policy_and_no_other() -> None:
    """PCR0 to PCR2, and PCR8 where the image is signed, from the document itself."""
    for _, document in documents("real"):
        claims = parse_claims(parse_cose(document).payload)
        pinned = {index: claims.pcrs[index] for index in (0, 1, 2, 8) if any(claims.pcrs[index])}
        if claims.is_debug:
            allowed = policy_for({}, unsafe_allow_debug=True)
            assert examine_archived(document, allowed, root=aws_nitro_root()).trust is Trust.DEBUG
            other, code = policy_for(dict(PCRS)), AttestationCode.DEBUG_MODE
        else:
            archived = examine_archived(document, policy_for(pinned), root=aws_nitro_root())
            assert (archived.release, archived.trust) == ("theirs", Trust.NITRO)
            other, code = policy_for(pinned | {0: b"\1" * 48}), AttestationCode.PCR_MISMATCH
        with pytest.raises(AttestationError) as caught:
            examine_archived(document, other, root=aws_nitro_root())
        assert caught.value.code == code


@needs_vectors
def test_every_aws_document_passes_a_release_that_lived_at_its_time_and_no_later_or_earlier_one() -> None:
    moment = timedelta(seconds=1)
    for _, document in documents("real"):
        claims = parse_claims(parse_cose(document).payload)
        if claims.is_debug:
            continue
        begin = claims.timestamp.replace(microsecond=0)
        pinned = Release(name="theirs", pcrs={index: claims.pcrs[index] for index in (0, 1, 2)})
        for life, code in (
            ((begin, begin + moment), None),
            ((begin - moment, begin), AttestationCode.RELEASE_EXPIRED),
            ((begin + moment, None), AttestationCode.RELEASE_NOT_YET_VALID),
        ):
            release = replace(pinned, not_before=life[0], expires=life[1])
            policy = Policy(accept=frozenset({Trust.NITRO}), releases=(release,))
            if code is None:
                archived = examine_archived(document, policy, root=aws_nitro_root())
                assert archived.release_expires == begin + moment
                continue
            with pytest.raises(AttestationError) as caught:
                examine_archived(document, policy, root=aws_nitro_root())
            assert caught.value.code == code


@needs_vectors
def test_the_live_verifier_on_aws_documents() -> None:
    """Those that carry what a live session demands, as their own client would have seen them."""
    live = 0
    for _, document in documents("real"):
        claims = parse_claims(parse_cose(document).payload)
        if claims.nonce is None or len(claims.nonce) < 16 or not claims.user_data:
            continue
        pcrs = {index: claims.pcrs[index] for index in (0, 1, 2)}
        verified = verify(
            document,
            policy_for(pcrs, unsafe_allow_debug=claims.is_debug),
            root=aws_nitro_root(),
            nonce=claims.nonce,
            user_data=claims.user_data,
            now=claims.timestamp + timedelta(seconds=1),
        )
        assert verified.user_data == claims.user_data
        live += 1
    assert live == 36


@needs_vectors
def test_nitrotpm_documents_are_refused_by_name() -> None:
    for _, document in documents("real-nitrotpm"):
        with pytest.raises(AttestationError, match="NitroTPM") as caught:
            examine_archived(document, None, root=aws_nitro_root())
        assert caught.value.code == AttestationCode.NITROTPM


@needs_vectors
def test_the_signed_empty_public_key_is_no_key() -> None:
    [(_, document)] = documents("real-spec-violation")
    archived = examine_archived(document, None, root=aws_nitro_root())
    assert (archived.public_key, archived.trust) == (None, Trust.DEBUG)


@needs_vectors
def test_what_others_publish_as_invalid() -> None:
    assert {path.name for path in (VECTORS / "invalid").iterdir()} == set(INVALID)
    for name, code in INVALID.items():
        with pytest.raises(AttestationError) as caught:
            examine_archived((VECTORS / "invalid" / name).read_bytes(), None, root=aws_nitro_root())
        assert caught.value.code == code, name
