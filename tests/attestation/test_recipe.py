"""The steps of the recipe as a caller watches them: their order, what each saw, and where they end."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from enclavectl.attestation import AttestationCode, Demands, Policy, Release, Step, Taken, take_steps
from enclavectl.errors import AttestationError, UsageError
from tests.attestation import test_forged_chains, test_forged_documents
from tests.forge import NONCE, NOW, PCRS, RELEASE, USER_DATA, EnclaveForge, accepting

LATER = NOW + timedelta(seconds=1)


def demands(
    forge: EnclaveForge,
    policy: Policy | None = None,
    *,
    at: datetime | None = LATER,
    nonce: bytes | None = NONCE,
    user_data: bytes | None = USER_DATA,
) -> Demands:
    return Demands(root=forge.root, policy=policy, at=at, nonce=nonce, user_data=user_data)


def taken_until_refused(document: bytes, demanded: Demands) -> tuple[list[Taken], str]:
    taken = []
    try:
        for step in take_steps(document, demanded):
            taken.append(step)  # noqa: PERF402 - the list must be there when the next step raises
    except AttestationError as error:
        return taken, error.code
    return taken, ""


def age_of(taken: list[Taken]) -> str:
    return next(one.seen for one in taken if one.step is Step.FRESHNESS)


def test_a_genuine_document_takes_every_step_in_order(forge: EnclaveForge) -> None:
    taken, code = taken_until_refused(forge.genuine(), demands(forge, accepting(RELEASE)))
    assert code == ""
    assert [one.step for one in taken] == list(Step)
    assert all(one.was_checked for one in taken)
    assert taken[-1].facts is not None
    assert taken[-1].facts.release == "1.0"


def test_what_is_not_demanded_is_said_not_to_be_checked(forge: EnclaveForge) -> None:
    taken = list(take_steps(forge.genuine(), demands(forge, at=None, nonce=None, user_data=None)))
    skipped = {one.step for one in taken if not one.was_checked}
    assert skipped == {
        Step.SIGNER,
        Step.FRESHNESS,
        Step.DEBUG,
        Step.RELEASE,
        Step.NONCE,
        Step.USER_DATA,
    }
    assert age_of(taken).startswith("age was not judged: ")


@pytest.mark.parametrize(
    ("since", "shown"),
    [(timedelta(seconds=30), "0:00:30 old"), (timedelta(seconds=-30), "0:00:30 ahead of this clock")],
)
def test_an_age_is_shown_as_a_time_that_people_read(
    forge: EnclaveForge, since: timedelta, shown: str
) -> None:
    for policy, expected in (
        (accepting(RELEASE), f"{shown}, at most 0:05:00 old is allowed; this is the age only"),
        (None, f"age was not judged: no policy says how old a document may be; {shown}"),
    ):
        taken, code = taken_until_refused(forge.genuine(), demands(forge, policy, at=NOW + since))
        assert (age_of(taken), code) == (expected, "")


@pytest.mark.parametrize(
    ("document", "changed", "last", "code"),
    [
        (b"", {}, Step.SIGNER, AttestationCode.SIZE),
        (None, {"at": NOW + timedelta(days=400)}, Step.CHAIN, AttestationCode.CHAIN_EXPIRED),
        (None, {"at": NOW - timedelta(days=400)}, Step.CHAIN, AttestationCode.CHAIN_NOT_YET_VALID),
        (None, {"at": NOW + timedelta(hours=1)}, Step.IDENTITY, AttestationCode.TOO_OLD),
        (None, {"nonce": bytes(32)}, Step.RELEASE, AttestationCode.NONCE),
        (None, {"user_data": bytes(48)}, Step.NONCE, AttestationCode.USER_DATA),
    ],
)
def test_the_first_broken_rule_ends_the_recipe(
    forge: EnclaveForge, document: bytes | None, changed: dict[str, bytes], last: Step, code: str
) -> None:
    demanded = demands(forge, accepting(RELEASE), **changed)  # type: ignore[arg-type]  # one of each kind
    taken, found = taken_until_refused(forge.genuine() if document is None else document, demanded)
    assert (taken[-1].step, found) == (last, code)


def test_nothing_is_a_fact_before_the_signature_was_checked(forge: EnclaveForge) -> None:
    genuine = forge.genuine()
    forged = genuine[:-1] + bytes([genuine[-1] ^ 1])
    taken, code = taken_until_refused(forged, demands(forge, accepting(RELEASE)))
    assert code == AttestationCode.SIGNATURE
    assert [one.facts for one in taken] == [None] * len(taken)


def test_facts_stay_when_only_the_policy_refuses(forge: EnclaveForge) -> None:
    other = accepting(Release(name="2.0", pcrs=PCRS | {0: b"\1" * 48}))
    taken, code = taken_until_refused(forge.genuine(), demands(forge, other))
    assert code == AttestationCode.PCR_MISMATCH
    assert taken[-1].facts is not None
    assert taken[-1].facts.pcrs[0] == PCRS[0]


def test_a_time_without_a_zone_is_no_time(forge: EnclaveForge) -> None:
    with pytest.raises(UsageError, match="time zone"):
        demands(forge, at=datetime(2026, 5, 4))  # noqa: DTZ001 - that it has no zone is the test


ENVELOPE, PAYLOAD, CHAIN = {Step.ENVELOPE}, {Step.PAYLOAD}, {Step.CHAIN}
# Where each code is found. CBOR stands in the envelope and in its payload.
STEPS_OF: dict[str, set[Step]] = {
    AttestationCode.SIZE: ENVELOPE,
    AttestationCode.CBOR: ENVELOPE | PAYLOAD,
    AttestationCode.COSE_STRUCTURE: ENVELOPE,
    AttestationCode.COSE_ALGORITHM: ENVELOPE,
    AttestationCode.NITROTPM: PAYLOAD,
    AttestationCode.UNKNOWN_FIELD: PAYLOAD,
    AttestationCode.FIELD: PAYLOAD,
    AttestationCode.CHAIN_ROOT: CHAIN,
    AttestationCode.CHAIN_STRUCTURE: CHAIN,
    AttestationCode.CHAIN_CERTIFICATE: CHAIN,
    AttestationCode.CHAIN_ALGORITHM: CHAIN,
    AttestationCode.CHAIN_NAME: CHAIN,
    AttestationCode.CHAIN_SIGNATURE: CHAIN,
    AttestationCode.CHAIN_CONSTRAINT: CHAIN,
    AttestationCode.CHAIN_NOT_YET_VALID: {Step.VALIDITY},
    AttestationCode.CHAIN_EXPIRED: {Step.VALIDITY},
    AttestationCode.SIGNATURE: {Step.SIGNATURE},
    AttestationCode.LEAF_NAME: {Step.IDENTITY},
    AttestationCode.LEAF_TIME: {Step.IDENTITY},
    AttestationCode.FROM_THE_FUTURE: {Step.FRESHNESS},
    AttestationCode.TOO_OLD: {Step.FRESHNESS},
    AttestationCode.DEBUG_MODE: {Step.DEBUG},
    AttestationCode.PCR_MISSING: {Step.RELEASE},
    AttestationCode.PCR_MISMATCH: {Step.RELEASE},
    AttestationCode.NONCE: {Step.NONCE},
    AttestationCode.USER_DATA: {Step.USER_DATA},
}
EDITS = {
    **{f"document: {name}": pair for name, pair in test_forged_documents.FORGERIES.items()},
    **{f"chain: {name}": pair for name, pair in test_forged_chains.FORGERIES.items()},
}


def test_there_are_many_ways_to_be_wrong_in_one_place() -> None:
    assert len(EDITS) + len(test_forged_documents.BYTE_EDITS) >= 150


@pytest.mark.parametrize("name", EDITS)
def test_a_forgery_is_stopped_at_the_step_of_its_code(forge: EnclaveForge, name: str) -> None:
    edit, code = EDITS[name]
    demanded = demands(forge, accepting(RELEASE), at=NOW)
    taken, found = taken_until_refused(forge.forged(edit), demanded)
    assert found == code
    assert list(Step)[len(taken)] in STEPS_OF[code]


@pytest.mark.parametrize("name", test_forged_documents.BYTE_EDITS)
def test_edited_bytes_are_stopped_at_the_step_of_their_code(forge: EnclaveForge, name: str) -> None:
    edit, code = test_forged_documents.BYTE_EDITS[name]
    taken, found = taken_until_refused(edit(forge.genuine()), demands(forge, accepting(RELEASE), at=NOW))
    assert found == code
    assert list(Step)[len(taken)] in STEPS_OF[code]
