"""Receipts in the checklist: what fits its document passes, what does not is refused at its own line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest

from enclave_payload.contents import Outcome, Timings, key_config_digest
from enclavectl.evidence import Case, EvidenceFile, KeptReceipt, Verification, Waiver, examine
from enclavectl.evidence.statements import answer_salt, answer_statement, request_statement
from enclavectl.protocol.receipts import Claim
from enclavectl.results.audit_page import render_audit_page
from enclavectl.results.evidence_wording import claims_of
from enclavectl.results.judgement import answers_of, shown_checks, summary_lines, verification_json
from tests.evidence import example
from tests.evidence.forged import measured, with_claims
from tests.evidence.sessions import KEY_CONFIG, archived_case, session_evidence
from tests.forge import NONCE, NOW, PCRS, EnclaveForge
from tests.in_process import CARD
from tests.schemas.validation import checked

PICTURE = b"not really a picture"
SALT = bytes(range(32))
OTHER_PICTURE = sha256(b"another patient's").digest()
OTHER = request_statement(SALT, OTHER_PICTURE, "image/png")
REQUEST = request_statement(SALT, sha256(PICTURE).digest(), "image/png")
OUTCOME = Outcome(
    model_id=CARD.model_id,
    model_sha256=CARD.sha256,
    timings=Timings(queue_us=0, decode_us=0, inference_us=0),
    probabilities_ppb={"dark": 250_000_000, "light": 750_000_000},
)
ANSWER = answer_statement(answer_salt(SALT), OUTCOME.to_cbor())


@dataclass(frozen=True)
class Kept:
    """A session's evidence file with a receipt, and the case that judges it."""

    forge: EnclaveForge
    evidence: EvidenceFile
    receipt: KeptReceipt

    def case(self, *receipts: KeptReceipt) -> Case:
        evidence = replace(self.evidence, receipts=receipts or (self.receipt,))
        return archived_case(self.forge, evidence)


@pytest.fixture(scope="module")
def kept() -> Kept:
    forge = EnclaveForge()
    document = forge.genuine(user_data=key_config_digest(KEY_CONFIG), public_key=example.PUBLIC_KEY)
    evidence = replace(session_evidence(forge), document=document)
    return Kept(forge, evidence, KeptReceipt(receipt=receipt_for(document), **statements()))


def statements() -> dict[str, bytes]:
    return {"request_statement": REQUEST, "answer_statement": ANSWER}


def receipt_for(document: bytes, changes: dict[Claim, object] | None = None) -> bytes:
    claims: dict[Claim, object] = {
        Claim.IAT: int(NOW.timestamp()) + 5,
        Claim.EAT_NONCE: NONCE,
        Claim.ATTESTATION_DOC_HASH: sha256(document).digest(),
        Claim.SECURITY_MODE: "evaluation",
        Claim.MODEL_ID: CARD.model_id,
        Claim.MODEL_HASH: bytes.fromhex(CARD.sha256),
        Claim.REQUEST_HASH: sha256(REQUEST).digest(),
        Claim.RESPONSE_HASH: sha256(ANSWER).digest(),
        **measured(**{f"pcr{index}": PCRS[index] for index in (0, 1, 2, 8)}),
    }
    return with_claims(claims | (changes or {}))


def line(verification: Verification) -> str:
    checked(verification_json(verification))
    return dict(summary_lines(verification))["receipt"]


def assert_withheld(verification: Verification, count: int) -> None:
    """Check that none of the answers that were read is shown anywhere, and that each form says so."""
    assert answers_of(verification) == []
    value = verification_json(verification)
    checked(value)
    assert (value["answers"], value["answers_withheld"]) == ([], count)
    said = dict(summary_lines(verification))["answer"]
    assert said.startswith("NOT SHOWN: ")
    page = render_audit_page(verification, name="e.json")
    assert said in page
    assert "75.0%" not in page


def test_the_answer_and_its_picture_are_read_from_the_evidence(kept: Kept) -> None:
    verification = examine(replace(kept.case(), picture=PICTURE))
    assert verification.error is None
    assert [check.id for check in verification.checks][-2:] == ["receipt", "picture"]
    assert line(verification) == "a signed receipt of brightness; 1 with the answer; mode evaluation"
    assert verification_json(verification)["answers_withheld"] == 0
    assert "answer" not in dict(summary_lines(verification))
    [answer] = answers_of(verification)
    assert answer.shares == (("light", "Light", 0.75), ("dark", "Dark", 0.25))
    assert answer.picture_sha256 == sha256(PICTURE).hexdigest()
    assert "only receipt" in " ".join(claims_of(verification)[1])
    assert "75.0%" in render_audit_page(verification, name="e.json")


def test_without_statements_a_receipt_counts_and_tells_nothing(kept: Kept) -> None:
    verification = examine(kept.case(KeptReceipt(receipt=kept.receipt.receipt)))
    assert verification.verified
    assert answers_of(verification) == []
    assert line(verification).startswith(
        "a signed receipt of brightness; 0 with the answer, 1 WITHOUT: what was answered is not shown"
    )
    proves, does_not = claims_of(verification)
    assert proves
    assert any(claim.startswith("What was answered: ") for claim in does_not)


def test_a_picture_whose_answer_was_kept_back_is_told_as_such(kept: Kept) -> None:
    """It passes, since a client may show its question alone; an answer to another picture is none to this."""
    other = request_statement(SALT, bytes(32), "image/png")
    shown = KeptReceipt(
        receipt=receipt_for(
            kept.evidence.document, {Claim.REQUEST_HASH: sha256(other).digest(), Claim.CTI: bytes(15) + b"1"}
        ),
        request_statement=other,
        answer_statement=ANSWER,
    )
    silent = replace(kept.receipt, answer_statement=None)
    for receipts in ((silent,), (silent, shown)):
        verification = examine(replace(kept.case(*receipts), picture=PICTURE))
        assert verification.verified
        assert verification.checks[-1].seen.endswith("its answer was not kept, so none is shown")
        assert "1 WITHOUT" in line(verification)
    told = examine(replace(kept.case(), picture=PICTURE))
    assert told.checks[-1].seen.endswith("its answer is shown")


def test_of_a_batch_only_the_answers_about_the_picture_are_shown(kept: Kept) -> None:
    """The others are other patients': neither their answers nor their pictures' hashes are shown."""
    others = [other_receipt(kept, number) for number in (1, 2)]
    unknown = replace(others[1], request_statement=None)
    for receipts, told in (
        ([others[0], kept.receipt], "1 other answer is not shown"),
        ([*others, kept.receipt], "2 other answers are not shown"),
        ([others[0], unknown, kept.receipt], "2 other answers are not shown"),
    ):
        verification = examine(replace(kept.case(*receipts), picture=PICTURE))
        assert verification.verified
        assert [one.picture_sha256 for one in answers_of(verification)] == [sha256(PICTURE).hexdigest()]
        lines = dict(summary_lines(verification))
        assert lines["answer"] == f"{told}: only those about your picture are"
        value = verification_json(verification)
        checked(value)
        assert value["answers_of_other_pictures"] == len(receipts) - 1
        page = render_audit_page(verification, name="e.json")
        assert told in page
        shown = page + json.dumps(value) + "".join(claims_of(verification)[0])
        assert OTHER_PICTURE.hex()[:16] not in shown
        assert sha256(PICTURE).hexdigest()[:16] in shown
        everything = examine(kept.case(*receipts))
        assert len(answers_of(everything)) == len(receipts)
        assert verification_json(everything)["answers_of_other_pictures"] == 0
        assert OTHER_PICTURE.hex()[:16] in render_audit_page(everything, name="e.json")


def other_receipt(kept: Kept, number: int) -> KeptReceipt:
    """The receipt of an answer of the same session about another patient's picture."""
    claims: dict[Claim, object] = {
        Claim.REQUEST_HASH: sha256(OTHER).digest(),
        Claim.CTI: bytes([number]) * 16,
    }
    return KeptReceipt(
        receipt=receipt_for(kept.evidence.document, claims), request_statement=OTHER, answer_statement=ANSWER
    )


def test_a_batch_without_the_picture_is_refused_without_a_word_on_the_others(kept: Kept) -> None:
    receipts = [kept.receipt, other_receipt(kept, 1)]
    refused = examine(replace(kept.case(*receipts), picture=b"another"))
    assert refused.error is not None
    assert refused.error.code == "picture-mismatch"
    assert "expected one of the 2 that the receipts are about" in refused.error.message
    text = render_audit_page(refused, name="e.json") + json.dumps(verification_json(refused))
    assert OTHER_PICTURE.hex()[:16] not in text
    assert sha256(PICTURE).hexdigest()[:16] not in text
    assert_withheld(refused, 2)


def test_a_picture_without_any_receipt_says_where_those_of_a_batch_are(kept: Kept) -> None:
    evidence = replace(kept.evidence, receipts=())
    refused = examine(replace(archived_case(kept.forge, evidence), picture=PICTURE))
    assert refused.error is not None
    assert refused.error.code == "receipt-missing"
    assert refused.error.message == "picture: expected a receipt, found none in this file"
    assert "verify NAME.receipts.jsonl --document NAME.json --picture FILE" in (refused.error.hint or "")


def test_a_batch_whose_receipts_passed_is_one_line_for_people(kept: Kept) -> None:
    """The verdict stays on the screen, and the receipt that was refused has its line."""
    document = kept.evidence.document
    good = [
        KeptReceipt(receipt=receipt_for(document, {Claim.CTI: bytes([number]) * 16}))
        for number in range(1, 13)
    ]
    verification = examine(kept.case(*good, good[3], *good))
    assert [check.id for check in shown_checks(verification)][-3:] == ["receipts", "receipt-13", "receipts"]
    passed, refused, later = shown_checks(verification)[-3:]
    assert (passed.ok, passed.seen) == (True, "12, receipt-1 to receipt-12: passed")
    assert refused == next(check for check in verification.checks if check.ok is False)
    assert (later.ok, later.seen) == (None, "12, receipt-14 to receipt-25: not reached")
    few = examine(kept.case(*good[:3]))
    assert shown_checks(few) == list(few.checks)
    assert len(verification_json(verification)["checks"]) == len(verification.checks)  # type: ignore[arg-type]


@pytest.mark.parametrize("with_statements", [True, False])
def test_a_receipt_that_is_there_twice_is_refused(kept: Kept, with_statements: bool) -> None:
    again = kept.receipt if with_statements else KeptReceipt(receipt=kept.receipt.receipt)
    verification = examine(kept.case(kept.receipt, again))
    assert verification.error is not None
    assert verification.error.code == "receipt-repeated"
    assert [check.id for check in verification.checks if check.ok is False] == ["receipt-2"]
    assert_withheld(verification, 1)


def test_a_bare_document_is_enough_for_a_receipt_but_not_for_its_model(kept: Kept) -> None:
    verification = examine(replace(kept.case(), evidence=None))
    assert verification.verified
    assert verification.checks[-1].seen.endswith("without a key configuration the model is its own word")


EDITS: dict[str, tuple[Callable[[Kept], KeptReceipt], str]] = {
    "no receipt at all": (lambda k: replace(k.receipt, receipt=b"\xd2rest"), "receipt-cbor"),
    "cut": (lambda k: replace(k.receipt, receipt=k.receipt.receipt[:-1]), "receipt-cbor"),
    "one bit": (
        lambda k: replace(k.receipt, receipt=k.receipt.receipt[:-1] + bytes([k.receipt.receipt[-1] ^ 1])),
        "receipt-signature",
    ),
    "other document": (
        lambda k: replace(k.receipt, receipt=receipt_for(b"another")),
        "document-mismatch",
    ),
    "other question": (lambda k: replace(k.receipt, request_statement=OTHER), "request-mismatch"),
    "other answer": (
        lambda k: replace(k.receipt, answer_statement=answer_statement(answer_salt(SALT), b"other")),
        "answer-mismatch",
    ),
    "swapped statements": (
        lambda k: replace(k.receipt, request_statement=ANSWER, answer_statement=REQUEST),
        "request-mismatch",
    ),
    "other model": (
        lambda k: replace(k.receipt, receipt=receipt_for(k.evidence.document, {Claim.MODEL_ID: "other"})),
        "receipt-model",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_receipt_that_does_not_fit_is_refused_at_its_line(kept: Kept, name: str) -> None:
    edit, code = EDITS[name]
    verification = examine(kept.case(kept.receipt, edit(kept)))
    assert verification.error is not None
    assert verification.error.code == code
    assert [check.id for check in verification.checks if check.ok is False] == ["receipt-2"]
    assert line(verification) == "1 of 2 was refused or not reached"


def test_a_picture_that_is_not_the_receipts_is_refused(kept: Kept) -> None:
    other = examine(replace(kept.case(), picture=b"another"))
    assert other.error is not None
    assert other.error.code == "picture-mismatch"
    assert_withheld(other, 1)
    unknown = examine(replace(kept.case(KeptReceipt(receipt=kept.receipt.receipt)), picture=PICTURE))
    assert unknown.error is not None
    assert unknown.error.code == "statement-missing"
    assert "--include-statements" in (unknown.error.hint or "")


def test_a_receipt_is_no_way_around_the_policy(kept: Kept) -> None:
    verification = examine(replace(kept.case(), policy=None))
    assert verification.error is not None
    assert verification.error.code == "no-policy"
    assert_withheld(verification, 1)
    waived = examine(replace(kept.case(), policy=Waiver.NO_POLICY))
    assert waived.verified
