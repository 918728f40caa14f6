"""AWS's own documents through the checklist, where the shared vectors are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from enclavectl.attestation import AttestationCode, Policy, Release, Trust, aws_nitro_root
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import parse_claims
from enclavectl.evidence.examination import examine
from enclavectl.evidence.reading import read_subject
from enclavectl.evidence.verification import Case, Waiver
from enclavectl.results.judgement import summary_lines
from tests.attestation.test_archived import INVALID, VECTORS, documents, needs_vectors

pytestmark = needs_vectors
MARLIN = "marlinprotocol-oyster-monorepo_2025-04-29_7b0ca130.bin"
TODAY = datetime(2026, 11, 28, tzinfo=UTC)


def archived(document: bytes, policy: Policy | None = None) -> Case:
    return Case(
        document=document,
        root=aws_nitro_root(),
        policy=policy or Waiver.NO_POLICY,
        at=Waiver.DOCUMENT_TIME,
        nonce=Waiver.NO_NONCE,
    )


def test_each_verifies_at_its_own_time_and_is_expired_at_present() -> None:
    found = documents("real")
    assert len(found) == 126
    for entry, document in found:
        then = examine(archived(document))
        assert then.verified, entry["file"]
        assert then.require().trust in (Trust.NITRO, Trust.DEBUG)
        assert "freshness was not checked" in dict(summary_lines(then))["time"]
        now = examine(replace(archived(document), at=TODAY))
        assert now.error is not None
        assert now.error.code == AttestationCode.CHAIN_EXPIRED, entry["file"]


def test_nitrotpm_documents_and_what_others_call_invalid_are_refused_by_name() -> None:
    for _, document in documents("real-nitrotpm"):
        refused = examine(archived(document)).error
        assert refused is not None
        assert refused.code == AttestationCode.NITROTPM
    for name, code in INVALID.items():
        subject = read_subject((VECTORS / "invalid" / name).read_bytes(), name=name)
        assert subject.document is not None
        refused = examine(archived(subject.document)).error
        assert refused is not None
        assert refused.code == code


def test_a_document_of_another_project_passes_with_its_model_register_pinned() -> None:
    document = (VECTORS / MARLIN).read_bytes()
    claims = parse_claims(parse_cose(document).payload)
    pinned = {index: claims.pcrs[index] for index in (0, 1, 2, 16)}
    assert any(pinned[16])

    def policy(pcrs: dict[int, bytes]) -> Policy:
        return Policy(accept=frozenset({Trust.NITRO}), releases=(Release(name="oyster", pcrs=pcrs),))

    verification = examine(archived(document, policy(pinned)))
    assert verification.verified
    assert verification.is_model_pinned
    assert dict(summary_lines(verification))["model"] == "pinned by PCR16"
    other = examine(archived(document, policy({**pinned, 16: b"\1" * 48})))
    assert other.error is not None
    assert other.error.code == AttestationCode.PCR_MISMATCH
