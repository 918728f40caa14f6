"""An answer is worth what its enclave had proven at `send`, under the policy that `listen` is given."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha384

import cbor2
import pytest

from enclavectl.attestation import AttestationCode, Policy, Release, Standing, Trust, TrustRoot
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.errors import AttestationError
from tests.forge import NOW, PCRS, RELEASE, EnclaveForge, accepting

OTHER = Release(name="2.0", pcrs={**PCRS, 2: b"\xee" * 48})


@pytest.fixture(scope="module")
def forge() -> EnclaveForge:
    return EnclaveForge()


@pytest.fixture(scope="module")
def standing(forge: EnclaveForge) -> Standing:
    return Standing.of(forge.verify(forge.genuine()))


def test_what_is_kept_is_what_was_proven(forge: EnclaveForge, standing: Standing) -> None:
    document = forge.verify(forge.genuine())
    assert (standing.module_id, standing.trust, standing.release) == (
        document.module_id,
        Trust.SIMULATED,
        RELEASE.name,
    )
    assert (standing.root, standing.root_fingerprint) == ("forge", forge.root.fingerprint)
    assert standing.pcrs == document.pcrs


def test_it_passes_what_the_document_would_pass(forge: EnclaveForge, standing: Standing) -> None:
    standing.check(accepting(RELEASE), forge.root)
    standing.check(accepting(OTHER, RELEASE), forge.root)


def refused(standing: Standing, policy: Policy, root: TrustRoot) -> str:
    with pytest.raises(AttestationError) as caught:
        standing.check(policy, root)
    return caught.value.code


def test_it_is_refused_where_the_document_would_be(forge: EnclaveForge, standing: Standing) -> None:
    assert refused(standing, accepting(OTHER), forge.root) == AttestationCode.PCR_MISMATCH
    nitro = Policy(accept=frozenset({Trust.NITRO}), releases=(RELEASE,))
    assert refused(standing, nitro, forge.root) == AttestationCode.TRUST_NOT_ACCEPTED
    pem = DevelopmentRoot.create(NOW).certificate_pem
    other = TrustRoot.from_pem(pem, trust=Trust.SIMULATED, name="other machine")
    assert refused(standing, accepting(RELEASE), other) == AttestationCode.CHAIN_ROOT


def test_it_keeps_the_models_register_for_a_policy_that_pins_it() -> None:
    forge = EnclaveForge()
    for request in ({"ExtendPCR": {"index": 16, "data": b"model"}}, {"LockPCRs": {"range": 32}}):
        forge.nsm.handle(cbor2.dumps(request))
    register = sha384(bytes(48) + b"model").digest()
    kept = Standing.of(forge.verify(forge.genuine()))
    kept.check(accepting(Release(name="pinned", pcrs={**PCRS, 16: register})), forge.root)
    other = accepting(Release(name="pinned", pcrs={**PCRS, 16: b"\xee" * 48}))
    assert refused(kept, other, forge.root) == AttestationCode.PCR_MISMATCH


def test_a_debug_enclave_passes_only_where_debug_mode_is_allowed(
    forge: EnclaveForge, standing: Standing
) -> None:
    debug = replace(
        standing, trust=Trust.DEBUG, release=None, pcrs={**PCRS, **dict.fromkeys((0, 1, 2), bytes(48))}
    )
    assert refused(debug, accepting(RELEASE), forge.root) == AttestationCode.DEBUG_MODE
    debug.check(accepting(RELEASE, unsafe_allow_debug=True), forge.root)
