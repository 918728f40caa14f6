from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from enclave_payload.card import ModelCard, model_register
from enclave_payload.contents import (
    SALT_BYTES,
    Delivery,
    Outcome,
    Problem,
    Request,
    Timings,
    encode_answer,
    encode_key_config,
    key_config_digest,
    parse_request,
)
from enclave_payload.media import MediaType
from enclave_payload.messages import AnswerKind, parse_sealed, request_id
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.seal import EnclaveKeys, SuiteId, generate_keys, request_info, seal_answer
from enclave_payload.session import AttestedSession
from enclave_payload.wire import FrameReader, FrameType, WireError
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.client.exchange import (
    CheckedAnswer,
    Expectation,
    PendingAnswer,
    VerifiedEnclave,
    new_challenge,
    new_request,
    open_reply,
    seal_picture,
    verify_evidence,
)
from enclavectl.client.pictures import Picture
from enclavectl.errors import AttestationError, PeerProtocolError
from enclavectl.evidence import ReceiptError, check_picture, check_statements, parse_receipt
from enclavectl.protocol.answers import Answer, parse_answer_content
from enclavectl.protocol.evidence import Challenge, Evidence, parse_evidence
from enclavectl.protocol.requests import sealed_frame
from tests.in_process import CARD, MODULE_ID, PCRS, SIGNER, attest, expect, new_root, simulated_nsm

PICTURE = Picture("a.png", MediaType.PNG, b"\x89PNG\r\n\x1a\n and the rest")
OUTCOME = Outcome(
    model_id=CARD.model_id,
    model_sha256=CARD.sha256,
    timings=Timings(queue_us=1, decode_us=2, inference_us=3),
    probabilities_ppb={"dark": 1, "light": 999_999_999},
)


def verified(public_keys: dict[SuiteId, bytes]) -> VerifiedEnclave:
    """An enclave that attested to ``public_keys``, through the real verifier."""
    return verified_config(encode_key_config(public_keys, CARD, bytes(SALT_BYTES)))


def verified_config(key_config: bytes) -> VerifiedEnclave:
    root = new_root()
    challenge = new_challenge()
    document = attest(root, challenge.nonce, key_config)
    evidence = Evidence(document, key_config)
    return verify_evidence(challenge, evidence, expect(root), datetime.now(UTC))


@pytest.fixture(scope="module")
def keys() -> EnclaveKeys:
    return generate_keys()


@pytest.fixture(scope="module")
def enclave(keys: EnclaveKeys) -> VerifiedEnclave:
    return verified(dict(keys.public))


def test_the_verified_enclave_carries_what_was_attested(enclave: VerifiedEnclave, keys: EnclaveKeys) -> None:
    assert enclave.card == CARD
    assert dict(enclave.config.public_keys) == dict(keys.public)
    assert enclave.document.trust == "simulated"
    assert enclave.suite() is SuiteId.MLKEM768_X25519


@pytest.mark.parametrize("suite", list(SuiteId))
@pytest.mark.parametrize("delivery", list(Delivery))
def test_a_picture_sealed_with_either_suite_is_what_the_enclave_opens(
    keys: EnclaveKeys, suite: SuiteId, delivery: Delivery
) -> None:
    enclave = verified({suite: keys.public[suite]})
    pending = new_request(enclave, 7, PICTURE)
    reader = FrameReader({FrameType.SEALED: 10_000})
    reader.feed(sealed_frame(seal_picture(enclave, pending, PICTURE, delivery)))
    frame = reader.next_frame()
    assert frame is not None
    sealed = parse_sealed(frame.body)
    assert (sealed.counter, sealed.suite) == (7, suite)
    assert PICTURE.data not in bytes(frame.body)
    info = request_info(suite, request_id(enclave.session_id, 7), enclave.transcript)
    assert parse_request(keys.open(suite, sealed.ciphertext, info)) == Request(
        picture=PICTURE.data,
        media_type=MediaType.PNG,
        reply_key=pending.reply_key,
        salt=pending.salt,
        delivery=delivery,
    )


def test_the_session_s_name_follows_from_the_nonce_so_that_nobody_else_can_choose_it(
    keys: EnclaveKeys,
) -> None:
    """Everything but the client's nonce is repeated, as a relay can repeat it."""
    root, key_config = new_root(), encode_key_config(keys.public, CARD, bytes(SALT_BYTES))
    sessions = set()
    for _ in range(5):
        challenge = new_challenge()
        document = attest(root, challenge.nonce, key_config)
        evidence = Evidence(document, key_config)
        sessions.add(verify_evidence(challenge, evidence, expect(root), datetime.now(UTC)).session_id)
    assert len(sessions) == 5


@pytest.mark.slow
def test_every_bit_of_the_evidence_is_proven(keys: EnclaveKeys) -> None:
    """A relay that changes any is found out before a picture is sent, in the key configuration, too."""
    root, challenge = new_root(), new_challenge()
    key_config = encode_key_config(keys.public, CARD, bytes(SALT_BYTES))
    document = attest(root, challenge.nonce, key_config)
    body, now = Evidence(document, key_config).to_body(), datetime.now(UTC)
    verify_evidence(challenge, parse_evidence(body), expect(root), now)
    for place in range(len(body)):
        changed = bytearray(body)
        changed[place] ^= 1 << place % 8
        with pytest.raises((AttestationError, WireError)):
            verify_evidence(challenge, parse_evidence(bytes(changed)), expect(root), now)


def pinned_evidence(
    keys: EnclaveKeys, root: DevelopmentRoot, challenge: Challenge, pinned: ModelCard | None
) -> Evidence:
    """Of an enclave that says that it has ``CARD``, and has pinned something."""
    key_config = encode_key_config(keys.public, CARD, bytes(SALT_BYTES))
    return Evidence(attest(root, challenge.nonce, key_config, pinned=pinned), key_config)


def test_a_card_that_is_not_the_measured_one_is_refused(keys: EnclaveKeys) -> None:
    """By one letter of the notice, and with a policy that pins no model."""
    root, challenge, now = new_root(), new_challenge(), datetime.now(UTC)
    honest = pinned_evidence(keys, root, challenge, CARD)
    assert verify_evidence(challenge, honest, expect(root), now).card == CARD
    other = replace(CARD, notice=CARD.notice + "!")
    with pytest.raises(AttestationError, match="PCR16: expected ") as caught:
        verify_evidence(challenge, pinned_evidence(keys, root, challenge, other), expect(root), now)
    assert caught.value.code == "model-register"
    assert model_register(CARD.to_json()).hex()[:16] in caught.value.message
    assert model_register(other.to_json()).hex()[:16] in caught.value.message


def test_a_model_is_pinned_where_the_release_says_so(keys: EnclaveKeys) -> None:
    root, challenge, now = new_root(), new_challenge(), datetime.now(UTC)
    evidence = pinned_evidence(keys, root, challenge, CARD)
    without = verify_evidence(challenge, evidence, expect(root), now)
    assert not without.document.model_pinned
    pinning = expect(root, {**PCRS, 16: model_register(CARD.to_json())})
    assert verify_evidence(challenge, evidence, pinning, now).document.model_pinned


def test_an_image_that_pins_no_model_passes_a_policy_that_asks_for_none(keys: EnclaveKeys) -> None:
    root, challenge, now = new_root(), new_challenge(), datetime.now(UTC)
    evidence = pinned_evidence(keys, root, challenge, None)
    found = verify_evidence(challenge, evidence, expect(root), now)
    assert 16 not in found.document.pcrs
    assert not found.document.model_pinned
    pinning = expect(root, {**PCRS, 16: model_register(CARD.to_json())})
    with pytest.raises(AttestationError) as caught:
        verify_evidence(challenge, evidence, pinning, now)
    assert caught.value.code == "pcr-missing"


def judged(expectation: Expectation, root: DevelopmentRoot, keys: EnclaveKeys) -> VerifiedEnclave:
    challenge = new_challenge()
    key_config = encode_key_config(keys.public, CARD, bytes(SALT_BYTES))
    document = attest(root, challenge.nonce, key_config)
    return verify_evidence(challenge, Evidence(document, key_config), expectation, datetime.now(UTC))


def test_another_enclave_of_the_same_image_is_not_the_one_that_is_meant(keys: EnclaveKeys) -> None:
    root = new_root()
    assert judged(replace(expect(root), module_id=MODULE_ID), root, keys).document.module_id == MODULE_ID
    other = f"{MODULE_ID[:-1]}0"
    with pytest.raises(AttestationError, match=f"expected {other}, found {MODULE_ID}") as caught:
        judged(replace(expect(root), module_id=other), root, keys)
    assert caught.value.code == "other-enclave"


@pytest.mark.parametrize(
    "wanted",
    [
        replace(CARD, sha256="cd" * 32),
        replace(CARD, labels=(CARD.labels[0], replace(CARD.labels[1], name="Harmless"))),
        replace(CARD, notice="A diagnosis."),
    ],
)
def test_the_attested_card_must_be_that_of_the_model_that_is_meant(
    keys: EnclaveKeys, wanted: ModelCard
) -> None:
    root = new_root()
    assert judged(replace(expect(root), card=CARD), root, keys).card == CARD
    with pytest.raises(AttestationError, match="found brightness with abababab") as caught:
        judged(replace(expect(root), card=wanted), root, keys)
    assert caught.value.code == "other-model"


def test_every_request_has_an_id_and_a_key_of_its_own(enclave: VerifiedEnclave) -> None:
    requests = [new_request(enclave, counter, PICTURE) for counter in range(20)]
    assert len({one.request_id for one in requests}) == 20
    assert len({one.reply_key for one in requests} | {one.salt for one in requests}) == 40


def test_a_pending_answer_does_not_show_its_key(enclave: VerifiedEnclave) -> None:
    pending = new_request(enclave, 1, PICTURE)
    assert pending.reply_key.hex() not in repr(pending)
    assert repr(pending.reply_key) not in repr(pending)


@pytest.mark.parametrize("suite", list(SuiteId))
@pytest.mark.parametrize("key", [b"", b"short", bytes(31), bytes(5000)])
def test_an_attested_key_that_is_no_key_is_an_attestation_error(suite: SuiteId, key: bytes) -> None:
    enclave = verified({suite: key})
    with pytest.raises(AttestationError, match="the attested public key is no key") as info:
        seal_picture(enclave, new_request(enclave, 0, PICTURE), PICTURE, Delivery.HERE)
    assert info.value.code == "key-config"


@pytest.mark.parametrize("config", [b"\xa0", b"garbage", b"\x00" * 100])
def test_an_attested_configuration_that_is_none_is_an_attestation_error(config: bytes) -> None:
    with pytest.raises(AttestationError, match="attested, but not of protocol version 1") as info:
        verified_config(config)
    assert info.value.code == "key-config"


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
    encoded, digest = outcome.to_cbor(), hashlib.sha256(picture).digest()
    return encode_answer(encoded, signer.sign(session, request, digest, outcome, encoded))


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
    signer._measurements, signer._mode = other._measurements, other._mode
    return signer


def described(index: int) -> tuple[bool, bytes]:
    return True, PCRS.get(index, bytes(48))


OTHER_SIGNER = ReceiptSigner(described, is_device=False)
OTHER_CODE = with_the_attested_key(lambda _: (True, bytes([9]) * 48), is_device=False)
BOASTER = with_the_attested_key(described, is_device=True)


WRONG: dict[str, Callable[[VerifiedEnclave, PendingAnswer], bytes]] = {
    "receipt-missing": lambda *_: encode_answer(OUTCOME.to_cbor(), None),
    "receipt-size": lambda *_: encode_answer(OUTCOME.to_cbor(), b""),
    "receipt-tag": lambda *_: encode_answer(OUTCOME.to_cbor(), b"receipt"),
    "receipt-signature": lambda enclave, pending: content_of(enclave, pending, signer=OTHER_SIGNER),
    "receipt-pcrs": lambda enclave, pending: content_of(enclave, pending, signer=OTHER_CODE),
    "receipt-mode": lambda enclave, pending: content_of(enclave, pending, signer=BOASTER),
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
