"""Nothing that differs from a genuine document in any byte passes, and no rule lacks its attack."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.attestation import AttestationCode
from enclavectl.attestation.codes import refused
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import parse_claims
from enclavectl.errors import AttestationError
from fuzz import attestation_document as fuzz_document
from tests.attestation import test_forged_chains, test_forged_documents
from tests.forge import EnclaveForge


@given(st.data())
def test_no_flipped_byte_passes(forge: EnclaveForge, data: st.DataObject) -> None:
    document = bytearray(forge.genuine())
    position = data.draw(st.integers(0, len(document) - 1))
    document[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AttestationError):
        forge.verify(bytes(document))


@given(st.binary(max_size=200))
def test_noise(forge: EnclaveForge, noise: bytes) -> None:
    with pytest.raises(AttestationError):
        forge.verify(noise)


@given(st.data())
def test_no_prefix_and_no_suffix_passes(forge: EnclaveForge, data: st.DataObject) -> None:
    document = forge.genuine()
    cut = data.draw(st.integers(0, len(document) - 1))
    tail = data.draw(st.binary(min_size=1, max_size=8))
    for changed in (document[:cut], document + tail):
        with pytest.raises(AttestationError):
            forge.verify(changed)


def test_a_payload_in_another_encoding_is_another_payload(forge: EnclaveForge) -> None:
    """Encoding the same claims again, as a careless verifier might, breaks the signature."""
    document = forge.genuine()
    envelope = parse_cose(document)
    definite = cbor2.dumps(cbor2.loads(envelope.payload))
    assert parse_claims(definite) == parse_claims(envelope.payload)
    again = cbor2.dumps([envelope.protected, {}, definite, envelope.signature])
    with pytest.raises(AttestationError) as caught:
        forge.verify(again)
    assert caught.value.code == AttestationCode.SIGNATURE


# In test_verify.py, test_policy_life.py and test_emulated.py: there the policy or the root does not fit.
ELSEWHERE = {
    AttestationCode.EMULATOR,
    AttestationCode.TRUST_NOT_ACCEPTED,
    AttestationCode.NO_RELEASE,
    AttestationCode.RELEASE_NOT_YET_VALID,
    AttestationCode.RELEASE_EXPIRED,
    AttestationCode.RELEASE_REVOKED,
}


def test_every_code_has_an_attack_and_a_hint() -> None:
    tables = (
        test_forged_documents.FORGERIES,
        test_forged_documents.BYTE_EDITS,
        test_forged_chains.FORGERIES,
    )
    attacked = {code for table in tables for _, code in table.values()}
    assert attacked | ELSEWHERE == set(AttestationCode)
    assert all(refused(code, "").hint for code in AttestationCode)


@given(st.sampled_from(fuzz_document.SEEDS), st.data())
def test_the_fuzzer_s_invariant_near_its_seeds(seed: bytes, data: st.DataObject) -> None:
    fuzz_document.one(seed)
    position = data.draw(st.integers(0, len(seed)))
    fuzz_document.one(seed[:position] + data.draw(st.binary(max_size=3)) + seed[position + 1 :])
