"""Answers as the client opens them: with the right receipt, and refused by name with a wrong one."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from enclave_payload.contents import (
    SALT_BYTES,
    Outcome,
    Request,
    encode_answer,
    encode_key_config,
    key_config_digest,
)
from enclave_payload.messages import AnswerKind
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.seal import EnclaveKeys, generate_keys, seal_answer
from enclave_payload.session import AttestedSession
from enclave_payload.verdict import Problem
from enclavectl.client.exchange import (
    CheckedAnswer,
    PendingAnswer,
    VerifiedEnclave,
    new_challenge,
    new_request,
    open_reply,
    verify_evidence,
)
from enclavectl.errors import PeerProtocolError
from enclavectl.evidence import ReceiptError, check_picture, check_statements, parse_receipt
from enclavectl.protocol.answers import Answer, parse_answer_content
from enclavectl.protocol.evidence import Evidence
from tests.client.test_exchange import OUTCOME, PICTURE, verified
from tests.in_process import CARD, PCRS, SIGNER, expect, new_root, simulated_nsm


@pytest.fixture(scope="module")
def keys() -> EnclaveKeys:
    return generate_keys()


@pytest.fixture(scope="module")
def enclave(keys: EnclaveKeys) -> VerifiedEnclave:
    return verified(dict(keys.public))


def answer(pending: PendingAnswer, kind: AnswerKind = AnswerKind.FINAL, content: bytes = b"") -> Answer:
    sealed = seal_answer(pending.reply_key, pending.request_id, kind, content)
    return Answer(pending.request_id, kind, sealed)


def content_of(
    enclave: VerifiedEnclave,
    pending: PendingAnswer,
    outcome: Outcome = OUTCOME,
    *,
    signer: ReceiptSigner = SIGNER,
    picture: bytes = PICTURE.data,
    document: bytes | None = None,
    salt: bytes | None = None,
) -> bytes:
    """The content of an honest answer, but for what is given."""
    session = AttestedSession(
        enclave.document.nonce or b"",
        hashlib.sha256(enclave.evidence.document if document is None else document).digest(),
    )
    request = Request(
        picture=picture,
        media_type=PICTURE.media_type,
        reply_key=pending.reply_key,
        salt=pending.salt if salt is None else salt,
    )
    encoded = outcome.to_cbor()
    card = replace(CARD, sha256=outcome.model_sha256)
    return encode_answer(encoded, signer.sign(signer.draft(session, request, card), outcome, encoded))


def reply(enclave: VerifiedEnclave, pending: PendingAnswer, content: bytes) -> CheckedAnswer | None:
    return open_reply(pending, answer(pending, content=content), enclave.session_evidence)


def test_an_answer_opens_to_what_was_sealed_with_its_receipt_and_statements(enclave: VerifiedEnclave) -> None:
    pending = new_request(enclave, 1, PICTURE)
    found = reply(enclave, pending, content_of(enclave, pending))
    assert found is not None
    assert found.outcome == OUTCOME
    assert found.receipted is not None
    receipt = parse_receipt(found.receipted.receipt)
    assert receipt.security_mode == "evaluation"
    asked, answered = check_statements(
        receipt, request=found.receipted.request_statement, answer=found.receipted.answer_statement
    )
    assert asked is not None
    check_picture(asked, PICTURE.data)
    assert answered is not None
    assert answered.outcome == OUTCOME.to_cbor()
    assert open_reply(pending, answer(pending, AnswerKind.RECEIPT), enclave.session_evidence) is None


def test_a_problem_has_no_receipt(enclave: VerifiedEnclave) -> None:
    pending = new_request(enclave, 1, PICTURE)
    problem = replace(OUTCOME, probabilities_ppb=None, problem=Problem.UNREADABLE)
    found = reply(enclave, pending, encode_answer(problem.to_cbor(), None))
    assert found == CheckedAnswer(outcome=problem, receipted=None)
    with pytest.raises(PeerProtocolError):
        reply(enclave, pending, encode_answer(problem.to_cbor(), b"receipt"))


def with_the_attested_key(describe: Callable[[int], tuple[bool, bytes]], *, is_device: bool) -> ReceiptSigner:
    """A signer with other registers, or another word on itself, and the attested key."""
    signer = copy.copy(SIGNER)
    other = ReceiptSigner(describe, is_device=is_device)
    signer._constant = other._constant
    return signer


def described(index: int) -> tuple[bool, bytes]:
    return True, PCRS.get(index, bytes(48))


OTHER_SIGNER = ReceiptSigner(described, is_device=False)
OTHER_CODE = with_the_attested_key(lambda _: (True, bytes([9]) * 48), is_device=False)


WRONG: dict[str, Callable[[VerifiedEnclave, PendingAnswer], bytes]] = {
    "receipt-missing": lambda *_: encode_answer(OUTCOME.to_cbor(), None),
    "receipt-size": lambda *_: encode_answer(OUTCOME.to_cbor(), b""),
    "receipt-tag": lambda *_: encode_answer(OUTCOME.to_cbor(), b"receipt"),
    "receipt-signature": lambda enclave, pending: content_of(enclave, pending, signer=OTHER_SIGNER),
    "receipt-pcrs": lambda enclave, pending: content_of(enclave, pending, signer=OTHER_CODE),
    "document-mismatch": lambda enclave, pending: content_of(enclave, pending, document=b"another"),
    "receipt-model": lambda enclave, pending: content_of(
        enclave, pending, replace(OUTCOME, model_sha256="cd" * 32)
    ),
    "request-mismatch": lambda enclave, pending: content_of(enclave, pending, picture=b"another"),
    "answer-mismatch": lambda enclave, pending: encode_answer(
        replace(OUTCOME, probabilities_ppb={"dark": 999_999_999, "light": 1}).to_cbor(),
        parse_answer_content(content_of(enclave, pending)).receipt,
    ),
}


@pytest.mark.parametrize("code", WRONG)
def test_an_answer_with_a_wrong_receipt_is_refused(enclave: VerifiedEnclave, code: str) -> None:
    pending = new_request(enclave, 1, PICTURE)
    with pytest.raises(ReceiptError) as caught:
        reply(enclave, pending, WRONG[code](enclave, pending))
    assert caught.value.code == code
    assert caught.value.exit_code == 4


def test_a_salt_of_another_request_is_refused(enclave: VerifiedEnclave) -> None:
    pending = new_request(enclave, 1, PICTURE)
    with pytest.raises(ReceiptError) as caught:
        reply(enclave, pending, content_of(enclave, pending, salt=bytes(32)))
    assert caught.value.code == "request-mismatch"


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), bytes(294)])
def test_a_session_s_document_without_a_receipt_key_is_refused(keys: EnclaveKeys, key: bytes) -> None:
    """One with a key for KMS, too: an RSA key in the same field."""
    root, challenge = new_root(), new_challenge()
    config = encode_key_config(keys.public, CARD, bytes(SALT_BYTES))
    document = simulated_nsm(root).attest(
        nonce=challenge.nonce, user_data=key_config_digest(config), public_key=key
    )
    with pytest.raises(ReceiptError) as caught:
        verify_evidence(challenge, Evidence(document, config), expect(root), datetime.now(UTC))
    assert caught.value.code == "no-receipt-key"


@pytest.mark.parametrize(
    "change",
    [
        lambda one: replace(one, ciphertext=bytes([one.ciphertext[0] ^ 1]) + one.ciphertext[1:]),
        lambda one: replace(one, ciphertext=one.ciphertext[:-1] + bytes([one.ciphertext[-1] ^ 1])),
        lambda one: replace(one, kind=AnswerKind.RECEIPT),
        lambda one: replace(one, request_id=bytes(24)),
        lambda one: replace(one, ciphertext=bytes(len(one.ciphertext))),
    ],
)
def test_a_changed_answer_is_refused(enclave: VerifiedEnclave, change: Callable[[Answer], Answer]) -> None:
    pending = new_request(enclave, 1, PICTURE)
    changed = change(answer(pending, content=content_of(enclave, pending)))
    with pytest.raises(PeerProtocolError, match="expected one sealed by the enclave for this request"):
        open_reply(pending, changed, enclave.session_evidence)


@pytest.mark.parametrize(
    "content",
    [b"not an answer", OUTCOME.to_cbor(), encode_answer(b"not an outcome", None), encode_answer(b"", b"r")],
)
def test_an_answer_that_is_no_outcome_is_refused(enclave: VerifiedEnclave, content: bytes) -> None:
    pending = new_request(enclave, 1, PICTURE)
    with pytest.raises(PeerProtocolError):
        reply(enclave, pending, content)


def test_the_answer_to_another_request_is_refused(enclave: VerifiedEnclave) -> None:
    one, other = new_request(enclave, 1, PICTURE), new_request(enclave, 2, PICTURE)
    with pytest.raises(PeerProtocolError):
        open_reply(one, answer(other, content=content_of(enclave, other)), enclave.session_evidence)
