"""Statements: what a receipt commits to, and how each can be shown alone."""

from __future__ import annotations

import hashlib
import hmac

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.evidence import (
    ReceiptError,
    answer_salt,
    answer_statement,
    check_outcome,
    check_picture,
    check_statements,
    parse_answer_statement,
    parse_receipt,
    parse_request_statement,
    request_statement,
)
from enclavectl.protocol.receipts import Claim
from tests.evidence import example
from tests.evidence.forged import with_claims

RECEIPT = parse_receipt(example.RECEIPT)
PICTURE_SHA256 = hashlib.sha256(example.PICTURE).digest()
OUTCOME = parse_answer_statement(example.ANSWER_STATEMENT).outcome
NEW_OUTCOME = cbor2.dumps(
    {
        "model": ["demo-synthetic-lesions", "ab" * 32],
        "timings": [120, 3100, 1400],
        "probabilities": [["bcc", 898_000_000], ["mel", 102_000_000]],
        "top": None,
        "rest": 0,
        "problem": None,
        "remarks": [],
    },
    canonical=True,
)


def test_the_statements_of_another_implementation_are_ours() -> None:
    assert request_statement(example.SALT, PICTURE_SHA256, "image/png") == example.REQUEST_STATEMENT
    assert answer_statement(answer_salt(example.SALT), OUTCOME) == example.ANSWER_STATEMENT


def test_the_receipt_of_another_implementation_commits_to_them() -> None:
    asked, answered = check_statements(
        RECEIPT, request=example.REQUEST_STATEMENT, answer=example.ANSWER_STATEMENT
    )
    assert asked is not None
    assert (asked.salt, asked.media_type) == (example.SALT, "image/png")
    check_picture(asked, example.PICTURE)
    assert answered is not None
    assert cbor2.loads(answered.outcome)["probabilities"] == {"bcc": 898_000_000, "mel": 102_000_000}


def test_each_can_be_shown_without_the_other() -> None:
    asked, answered = check_statements(RECEIPT, request=None, answer=example.ANSWER_STATEMENT)
    assert asked is None
    assert answered is not None
    # The salt that tests pictures does not follow from the one that is shown.
    assert answered.salt == hmac.digest(example.SALT, b"enclavectl answer salt v1", "sha256")
    asked, answered = check_statements(RECEIPT, request=example.REQUEST_STATEMENT, answer=None)
    assert asked is not None
    assert answered is None


def test_the_statements_of_another_answer_are_refused() -> None:
    other_request = request_statement(bytes(32), PICTURE_SHA256, "image/png")
    other_answer = answer_statement(bytes(32), OUTCOME)
    with pytest.raises(ReceiptError) as caught:
        check_statements(RECEIPT, request=other_request, answer=None)
    assert caught.value.code == "request-mismatch"
    with pytest.raises(ReceiptError) as caught:
        check_statements(RECEIPT, request=None, answer=other_answer)
    assert caught.value.code == "answer-mismatch"


def test_an_answer_whose_salt_is_not_the_request_s_is_refused() -> None:
    other = answer_statement(bytes(32), OUTCOME)
    receipt = parse_receipt(with_claims({Claim.RESPONSE_HASH: hashlib.sha256(other).digest()}))
    check_statements(receipt, request=None, answer=other)
    with pytest.raises(ReceiptError) as caught:
        check_statements(receipt, request=example.REQUEST_STATEMENT, answer=other)
    assert caught.value.code == "answer-mismatch"


def test_another_picture_is_refused() -> None:
    with pytest.raises(ReceiptError) as caught:
        check_picture(parse_request_statement(example.REQUEST_STATEMENT), example.PICTURE + b"\0")
    assert caught.value.code == "picture-mismatch"


def test_the_outcome_is_read_if_it_is_of_the_receipt_s_model() -> None:
    statement = parse_answer_statement(answer_statement(answer_salt(example.SALT), NEW_OUTCOME))
    outcome = check_outcome(RECEIPT, statement)
    assert outcome.probabilities_ppb == {"bcc": 898_000_000, "mel": 102_000_000}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": ["demo-synthetic-lesions", "ac" * 32]}, "answer-mismatch"),
        ({"model": ["another", "ab" * 32]}, "answer-mismatch"),
        ({"probabilities": None, "problem": "empty"}, "answer-mismatch"),
        ({"remarks": None}, "statement-form"),
    ],
    ids=repr,
)
def test_an_outcome_that_no_receipt_is_made_for_is_refused(changes: dict[str, object], code: str) -> None:
    changed = cbor2.dumps(cbor2.loads(NEW_OUTCOME) | changes, canonical=True)
    with pytest.raises(ReceiptError) as caught:
        check_outcome(RECEIPT, parse_answer_statement(answer_statement(answer_salt(example.SALT), changed)))
    assert caught.value.code == code


REQUEST = cbor2.loads(example.REQUEST_STATEMENT)
ANSWER = cbor2.loads(example.ANSWER_STATEMENT)


@pytest.mark.parametrize(
    "value",
    [
        *({key: value for key, value in REQUEST.items() if key != name} for name in REQUEST),
        *({**REQUEST, name: None} for name in REQUEST),
        {**REQUEST, "more": 1},
        {**REQUEST, 1: 1},
        {**REQUEST, "salt": bytes(31)},
        {**REQUEST, "picture": bytes(33)},
        [],
        ANSWER,
    ],
    ids=repr,
)
def test_a_request_statement_of_another_form_is_refused(value: object) -> None:
    with pytest.raises(ReceiptError) as caught:
        parse_request_statement(cbor2.dumps(value, canonical=True))
    assert caught.value.code == "statement-form"


@pytest.mark.parametrize(
    "value",
    [
        *({key: value for key, value in ANSWER.items() if key != name} for name in ANSWER),
        *({**ANSWER, name: None} for name in ANSWER),
        {**ANSWER, "more": 1},
        {**ANSWER, 1: 1},
        {**ANSWER, "salt": bytes(33)},
        REQUEST,
    ],
    ids=repr,
)
def test_an_answer_statement_of_another_form_is_refused(value: object) -> None:
    with pytest.raises(ReceiptError) as caught:
        parse_answer_statement(cbor2.dumps(value, canonical=True))
    assert caught.value.code == "statement-form"


@pytest.mark.parametrize("data", [example.REQUEST_STATEMENT, example.ANSWER_STATEMENT])
def test_whole_cut_and_trailed_only_the_whole_is_a_statement(data: bytes) -> None:
    parse = parse_request_statement if data == example.REQUEST_STATEMENT else parse_answer_statement
    for end in range(len(data)):
        with pytest.raises(ReceiptError):
            parse(data[:end])
    with pytest.raises(ReceiptError):
        parse(data + b"\0")


def test_keys_in_another_order_are_refused() -> None:
    with pytest.raises(ReceiptError):
        parse_answer_statement(cbor2.dumps(dict(reversed(ANSWER.items()))))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.text(max_size=40))
def test_a_request_statement_is_read_back(salt: bytes, picture: bytes, media_type: str) -> None:
    found = parse_request_statement(request_statement(salt, picture, media_type))
    assert (found.salt, found.picture_sha256, found.media_type) == (salt, picture, media_type)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=4000))
def test_an_answer_statement_is_read_back(salt: bytes, outcome: bytes) -> None:
    assert parse_answer_statement(answer_statement(salt, outcome)).outcome == outcome
