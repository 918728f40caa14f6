"""The checklist: every step is shown, the first broken one decides, and what is not demanded says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from enclave_payload.contents import SALT_BYTES, encode_key_config, key_config_digest
from enclave_payload.seal import generate_keys
from enclavectl.attestation import (
    AttestationCode,
    EmulatorRoot,
    Policy,
    Release,
    Revocation,
    Step,
    Trust,
    aws_nitro_root,
)
from enclavectl.errors import AttestationError
from enclavectl.evidence.examination import examine
from enclavectl.evidence.file import EvidenceCode, EvidenceError, EvidenceFile, RootName, parse_evidence_file
from enclavectl.evidence.verification import Case, Verification, Waiver, unreadable
from enclavectl.protocol.key_config import MODEL_PCR, model_register
from enclavectl.results.audit_page import render_audit_page
from enclavectl.results.evidence_wording import claims_of
from enclavectl.results.judgement import summary_lines, verdict, verification_json
from tests.evidence.sessions import (
    KEY_CONFIG,
    LATER,
    POLICY,
    archived_case,
    base64_of,
    edited,
    measured_evidence,
    session_evidence,
)
from tests.forge import NONCE, NOW, PCRS, EnclaveForge, accepting
from tests.in_process import CARD
from tests.schemas.validation import checked

RECIPE = [step.value for step in Step]
REVOKED_AT = datetime(2026, 5, 1, tzinfo=UTC)
REGISTER = model_register(CARD.to_json())


@pytest.fixture(scope="module")
def forge() -> EnclaveForge:
    return EnclaveForge()


@pytest.fixture(scope="module")
def evidence(forge: EnclaveForge) -> EvidenceFile:
    return session_evidence(forge)


def live_case(forge: EnclaveForge, evidence: EvidenceFile) -> Case:
    return replace(archived_case(forge, evidence), at=LATER, nonce=NONCE)


def ids(verification: Verification, *, ok: bool | None) -> list[str]:
    return [check.id for check in verification.checks if check.ok is ok]


def lines(verification: Verification) -> dict[str, str]:
    found = dict(summary_lines(verification))
    assert list(found) == ["trust", "time", "release", "model", "receipt"]
    checked(verification_json(verification))
    return found


def test_kept_evidence_is_archived_and_says_so(forge: EnclaveForge, evidence: EvidenceFile) -> None:
    verification = examine(archived_case(forge, evidence))
    assert verification.verified
    assert [check.id for check in verification.checks] == ["file", *RECIPE, "session", "model"]
    assert ids(verification, ok=False) == []
    assert ids(verification, ok=None) == ["freshness", "model"]
    found = lines(verification)
    assert found["trust"].startswith("simulated: ")
    assert found["time"].startswith("archived: ")
    assert found["time"].endswith("freshness was not checked: that takes a judgement now")
    assert_said_once(verification)
    assert found["release"].startswith("1.0, valid at 2026-05-04")
    assert found["model"].startswith("not pinned")
    assert verdict(verification) == "VERIFIED (trust simulated)"


def test_only_now_with_a_nonce_of_ones_own_is_fresh(forge: EnclaveForge, evidence: EvidenceFile) -> None:
    fresh = examine(live_case(forge, evidence))
    assert fresh.is_fresh
    assert lines(fresh)["time"].startswith("fresh: ")
    recording = "without a nonce of yours this may be a recording"
    for changed, why in (
        ({"nonce": Waiver.NO_NONCE}, recording),
        ({"is_now": False}, "that takes a judgement now"),
        ({"policy": Waiver.NO_POLICY}, "no policy says how old it may be"),
        ({"at": Waiver.DOCUMENT_TIME}, "that takes a judgement now"),
        ({"policy": None, "nonce": Waiver.NO_NONCE}, recording),
        ({"policy": None}, "no policy says how old it may be"),
    ):
        other = examine(replace(live_case(forge, evidence), **changed))
        assert not other.is_fresh
        assert lines(other)["time"].endswith(f"; freshness was not checked: {why}")
        assert_said_once(other)


def assert_said_once(verification: Verification) -> None:
    """The line of the time says it; a step or a claim with the same words would be about something else."""
    proves, does_not = claims_of(verification)
    others = [*(check.seen for check in verification.checks), *proves, *does_not]
    assert not [text for text in others if "freshness" in text]


@pytest.mark.parametrize(
    ("changed", "step"),
    [
        ({"nonce": bytes(32)}, "nonce"),
        ({"nonce": bytes(32), "at": Waiver.DOCUMENT_TIME}, "nonce"),
        ({"at": LATER + timedelta(hours=1)}, "freshness"),
        ({"policy": accepting(Release(name="2.0", pcrs=PCRS | {0: b"\1" * 48}))}, "release"),
    ],
)
def test_what_failed_is_not_said_to_be_unchecked(
    forge: EnclaveForge, evidence: EvidenceFile, changed: dict[str, Any], step: str
) -> None:
    refused = examine(replace(live_case(forge, evidence), **changed))
    assert ids(refused, ok=False) == [step]
    assert lines(refused)["time"].endswith(f"; not fresh: the step {step} failed")


@pytest.mark.parametrize("changed", [{"at": Waiver.DOCUMENT_TIME}, {"nonce": Waiver.NO_NONCE}])
def test_a_step_that_is_not_about_time_leaves_freshness_unchecked(
    forge: EnclaveForge, evidence: EvidenceFile, changed: dict[str, Any]
) -> None:
    other = accepting(Release(name="2.0", pcrs=PCRS | {0: b"\1" * 48}))
    refused = examine(replace(live_case(forge, evidence), policy=other, **changed))
    assert ids(refused, ok=False) == ["release"]
    assert "; freshness was not checked: " in lines(refused)["time"]


def test_without_a_policy_chain_and_signature_are_judged_and_the_verdict_is_not(
    forge: EnclaveForge, evidence: EvidenceFile
) -> None:
    verification = examine(archived_case(forge, evidence, None))
    assert verification.error is not None
    assert verification.error.code == EvidenceCode.NO_POLICY
    assert {"chain", "validity", "signature"} <= set(ids(verification, ok=True))
    assert ids(verification, ok=False) == ["policy"]
    assert verdict(verification) == "NOT JUDGED"
    with pytest.raises(EvidenceError):
        verification.require()


def test_a_forgery_is_refused_with_and_without_a_policy(forge: EnclaveForge) -> None:
    genuine = forge.genuine()
    forged = genuine[:-1] + bytes([genuine[-1] ^ 1])
    for policy in (POLICY, None, Waiver.NO_POLICY):
        case = Case(
            document=forged, root=forge.root, policy=policy, at=Waiver.DOCUMENT_TIME, nonce=Waiver.NO_NONCE
        )
        verification = examine(case)
        assert verification.error is not None
        assert verification.error.code == AttestationCode.SIGNATURE
        found = verification_json(verification)
        assert (found["trust"], found["module_id"], found["timestamp"], found["pcrs"]) == (
            None,
            None,
            None,
            {},
        )
        shown = lines(verification)
        assert shown["trust"] == "none: the signature was checked, and it is false"
        untrue = "nothing is known: the signature is not of the document's leaf certificate"
        assert {shown["time"], shown["model"]} == {untrue}


def test_the_checklist_shows_where_it_stopped_and_what_comes_after(
    forge: EnclaveForge, evidence: EvidenceFile
) -> None:
    other = accepting(Release(name="2.0", pcrs=PCRS | {0: b"\1" * 48}))
    verification = examine(archived_case(forge, evidence, other))
    assert ids(verification, ok=False) == ["release"]
    after = [check.id for check in verification.checks if check.seen == "not reached"]
    assert after == ["nonce", "user-data", "session", "model"]
    assert verification_json(verification)["pcrs"]
    assert verdict(verification) == "REFUSED (pcr-mismatch)"


@pytest.mark.parametrize(
    ("year", "code"),
    [(1970, AttestationCode.CHAIN_NOT_YET_VALID), (2031, AttestationCode.CHAIN_EXPIRED)],
)
def test_a_wrong_clock_is_told_as_the_time_of_the_certificates(
    forge: EnclaveForge, evidence: EvidenceFile, year: int, code: str
) -> None:
    verification = examine(replace(live_case(forge, evidence), at=datetime(year, 1, 1, tzinfo=UTC)))
    assert verification.error is not None
    assert verification.error.code == code
    assert verification.error.hint


def test_a_file_that_cannot_be_read_has_a_checklist_too() -> None:
    verification = unreadable(EvidenceError(EvidenceCode.FILE, "evidence file: broken"))
    assert ids(verification, ok=False) == ["file"]
    assert ids(verification, ok=None) == RECIPE
    found = lines(verification)
    assert found["trust"] == "none: no signature was checked; it stopped at file"
    assert found["time"] == "nothing is known: the signature was not reached: it stopped at file"
    assert found["receipt"] == "none"
    assert claims_of(verification)[0] == []


def set_member(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(members: dict[str, Any]) -> None:
        members[key] = value

    return edit


OTHER_CONFIG = encode_key_config(generate_keys().public, CARD, bytes(SALT_BYTES))
FORGERIES: dict[str, tuple[str, object, str]] = {
    "document of another session": ("document", None, AttestationCode.NONCE),
    "key configuration": ("key_config", base64_of(OTHER_CONFIG), AttestationCode.USER_DATA),
    "nonce": ("nonce", base64_of(bytes(32)), AttestationCode.NONCE),
    "time before": ("requested_at", "2020-01-01T00:00:00.000+00:00", EvidenceCode.TIME),
    "time after": ("requested_at", "2026-05-04T13:00:00.000+00:00", EvidenceCode.TIME),
    "root": ("root", {"name": "forge", "sha256": "cd" * 32}, EvidenceCode.ROOT),
    "policy": ("policy", "accept: [nitro]", EvidenceCode.POLICY),
    "policy's hash": ("policy_sha256", "cd" * 32, EvidenceCode.POLICY),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forger_who_makes_the_hash_anew_is_refused_by_name(
    forge: EnclaveForge, evidence: EvidenceFile, name: str
) -> None:
    key, value, code = FORGERIES[name]
    if key == "document":
        value = base64_of(session_evidence(forge, nonce=bytes(32)).document)
    data = edited(evidence, set_member(key, value), rehash=True)
    with pytest.raises(AttestationError) as caught:
        examine(archived_case(forge, parse_evidence_file(data))).require()
    assert caught.value.code == code


def test_an_attested_key_configuration_of_another_protocol_is_refused(forge: EnclaveForge) -> None:
    verification = examine(archived_case(forge, session_evidence(forge, key_config=b"\xa0")))
    assert verification.error is not None
    assert verification.error.code == EvidenceCode.KEY_CONFIG
    assert ids(verification, ok=False) == ["model"]


def pinned(register: bytes = REGISTER) -> tuple[EnclaveForge, EvidenceFile, Release]:
    forge = EnclaveForge()
    release = Release(name="1.0", pcrs={**PCRS, MODEL_PCR: register})
    return forge, measured_evidence(forge, register), release


def test_the_model_is_pinned_where_the_policy_names_its_register() -> None:
    forge, evidence, release = pinned()
    verification = examine(archived_case(forge, evidence, accepting(release)))
    assert verification.is_model_pinned
    assert lines(verification)["model"].startswith(
        f"pinned by PCR16; the attested card names {CARD.model_id}"
    )
    unpinned = examine(archived_case(forge, evidence))
    assert not unpinned.is_model_pinned
    assert lines(unpinned)["model"].startswith("not pinned: the document has PCR16")


def test_a_release_that_was_refused_says_nothing_of_the_model() -> None:
    """A revoked release may well have pinned it."""
    forge, evidence, release = pinned()
    revoked = Policy(
        accept=frozenset({Trust.SIMULATED}),
        releases=(Release(name="2.0", pcrs={**PCRS, 0: b"\1" * 48}),),
        revoked=(Revocation(name="1.0", pcrs=release.pcrs, date=REVOKED_AT, reason="a leak"),),
    )
    verification = examine(archived_case(forge, evidence, revoked))
    assert verification.error is not None
    assert verification.error.code == AttestationCode.RELEASE_REVOKED
    found = lines(verification)
    assert "a leak" in found["release"]
    assert found["release"].startswith("none passed: ")
    assert found["model"].startswith("not judged, as no release passed: the document has PCR16")


def test_what_was_not_reached_is_not_told_as_what_failed() -> None:
    forge = EnclaveForge(dict.fromkeys((0, 1, 2), bytes(48)))
    found = lines(examine(archived_case(forge, session_evidence(forge))))
    assert found["release"] == "not reached: it stopped at debug"
    assert found["model"].startswith("not judged, as no release passed")


def test_a_card_that_the_register_does_not_measure_is_refused() -> None:
    forge, evidence, release = pinned(b"\x77" * 48)
    verification = examine(archived_case(forge, evidence, accepting(release)))
    assert verification.error is not None
    assert verification.error.code == EvidenceCode.MODEL_REGISTER


def test_a_debug_enclave_passes_only_a_policy_that_says_unsafe() -> None:
    forge = EnclaveForge(dict.fromkeys((0, 1, 2), bytes(48)))
    evidence = session_evidence(forge)
    refused = examine(archived_case(forge, evidence))
    assert refused.error is not None
    assert refused.error.code == AttestationCode.DEBUG_MODE
    allowed = examine(archived_case(forge, evidence, accepting(unsafe_allow_debug=True)))
    assert lines(allowed)["trust"].startswith("debug: ")
    assert "debug" in " ".join(claims_of(allowed)[1])


def test_the_page_escapes_what_the_evidence_says_and_warns_of_all_but_nitro(
    forge: EnclaveForge, evidence: EvidenceFile
) -> None:
    hostile = replace(evidence, tool="<script>alert(1)</script>", root=RootName(name="<b>", sha256="cd" * 32))
    for one in (evidence, hostile):
        page = render_audit_page(examine(archived_case(forge, one)), name="<i>evidence</i>.json")
        assert "<script" not in page
        assert "<i>" not in page
        assert 'class="banner loud"' in page
        assert "freshness" in page
    assert "REFUSED (evidence-root)" in page


def test_requested_long_before_the_document_is_refused(forge: EnclaveForge, evidence: EvidenceFile) -> None:
    for apart, is_good in ((timedelta(minutes=14), True), (timedelta(minutes=16), False)):
        for sign in (1, -1):
            moved = replace(evidence, requested_at=NOW + sign * apart)
            assert examine(archived_case(forge, moved)).verified is is_good


def test_user_data_of_the_file_is_what_the_document_must_bind(
    forge: EnclaveForge, evidence: EvidenceFile
) -> None:
    assert examine(archived_case(forge, evidence)).require().user_data == key_config_digest(KEY_CONFIG)


def test_evidence_of_the_emulator_is_refused_with_the_policy_that_would_take_it(
    forge: EnclaveForge, evidence: EvidenceFile
) -> None:
    emulated = replace(evidence, root=RootName.of(EmulatorRoot()))
    refused = examine(archived_case(forge, emulated)).error
    other = examine(archived_case(forge, replace(evidence, root=RootName(name="x", sha256="cd" * 32)))).error
    assert refused is not None
    assert other is not None
    assert refused.code == other.code == EvidenceCode.ROOT
    assert "accept: [emulated]" in str(refused.hint)
    assert "receipt extract" in str(other.hint), "a root was named already"
    assert "--root" not in str(refused.hint), "no file stands for the emulator"
    unnamed = examine(replace(archived_case(forge, evidence), root=aws_nitro_root())).error
    assert unnamed is not None
    assert str(unnamed.hint).startswith("Name the root that you trust with --root")
