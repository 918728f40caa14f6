"""The client's half of a session, without I/O: verify, then seal. The types allow no other order.

Only ``verify_evidence`` makes a ``VerifiedEnclave``, and ``seal_picture`` requires one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime

from enclavectl.attestation import ArchivedDocument, Policy, Root, VerifiedDocument, verify
from enclavectl.client.pictures import Picture
from enclavectl.errors import AttestationError, PeerProtocolError
from enclavectl.evidence import (
    ReceiptCode,
    Receipted,
    ReceiptError,
    answer_salt,
    answer_statement,
    check_commitments,
    check_outcome_model,
    check_receipt,
    parse_receipt,
    request_statement,
)
from enclavectl.evidence.air import PUBLIC_KEY_BYTES
from enclavectl.protocol.answers import (
    Answer,
    AnswerContent,
    AnswerKind,
    ContentError,
    Outcome,
    name_outcome,
    parse_answer_content,
    parse_outcome,
)
from enclavectl.protocol.evidence import (
    NONCE_BYTES,
    Challenge,
    Evidence,
    challenge_body,
    session_id,
    transcript_hash,
)
from enclavectl.protocol.key_config import (
    MODEL_PCR,
    KeyConfig,
    ModelCard,
    key_config_digest,
    model_register,
    parse_key_config,
)
from enclavectl.protocol.media import MediaType
from enclavectl.protocol.requests import (
    REPLY_KEY_BYTES,
    REQUEST_SALT_BYTES,
    Delivery,
    Request,
    Sealed,
    request_content,
    request_counter,
    request_id,
)
from enclavectl.protocol.sealing import SealError, SuiteId, open_answer, request_info, seal_request


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the client demands of an enclave before it sends anything.

    ``module_id`` is the one enclave that is meant, where others of the same image would pass as well; None:
    any. ``card`` is the model that is meant, None: any that the policy's releases hold.
    """

    policy: Policy
    root: Root
    module_id: str | None = None
    card: ModelCard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvidence:
    """A session's document as it was judged, and the bytes that came: what its receipts are held to.

    ``card`` is of the key configuration that came.
    """

    document: VerifiedDocument | ArchivedDocument
    received: Evidence
    card: ModelCard


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedEnclave:
    """An enclave whose evidence was verified, and the session of that evidence.

    ``evidence`` is what was verified, as it came. ``requested_at`` is when the client asked, by its clock.
    """

    document: VerifiedDocument
    evidence: Evidence
    requested_at: datetime
    config: KeyConfig
    session_id: bytes
    transcript: bytes

    @property
    def card(self) -> ModelCard:
        """The attested card of the model that will see the picture."""
        return self.config.card

    @property
    def label_names(self) -> dict[str, str]:
        """The names of the labels by code, in the order of the model's outputs."""
        return {label.code: label.name for label in self.card.labels}

    @property
    def session_evidence(self) -> SessionEvidence:
        """What the session's receipts are held to."""
        return SessionEvidence(document=self.document, received=self.evidence, card=self.card)

    def suite(self) -> SuiteId:
        """Choose the best suite that the enclave offers; ids are in the order of preference."""
        return min(self.config.public_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAnswer:
    """The key to the answer of one request, and the question that its receipt must name.

    Secret: kept in memory, or in a 0600 file for ``listen``. ``salt`` blinds the receipt's statements.
    """

    request_id: bytes
    reply_key: bytes
    salt: bytes
    picture_sha256: bytes
    media_type: MediaType

    def __repr__(self) -> str:
        return f"PendingAnswer({self.request_id.hex()})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedAnswer:
    """An outcome, and the receipt that was checked for it; None where the outcome is a problem."""

    outcome: Outcome
    receipted: Receipted | None


def new_challenge() -> Challenge:
    """Draw a fresh challenge, which no earlier document can answer."""
    return Challenge(os.urandom(NONCE_BYTES))


def verify_evidence(
    challenge: Challenge,
    evidence: Evidence,
    expectation: Expectation,
    now: datetime,
    *,
    requested_at: datetime | None = None,
) -> VerifiedEnclave:
    """Verify that the enclave's document is signed, fresh, allowed, and commits to its keys.

    ``requested_at`` is when the challenge was sent; None: now.

    Raises:
        AttestationError: any rule of ``attestation.verify`` is broken, the document has no receipt key, the
            attested key configuration is not one of this protocol, its card is not the one that PCR16
            measures, or it is another enclave or another model than the one that is meant.
    """
    document = verify(
        evidence.document,
        expectation.policy,
        root=expectation.root,
        nonce=challenge.nonce,
        user_data=key_config_digest(evidence.key_config),
        now=now,
    )
    if document.public_key is None or len(document.public_key) != PUBLIC_KEY_BYTES:
        raise ReceiptError(
            ReceiptCode.NO_RECEIPT_KEY,
            f"public_key: expected an Ed25519 key of {PUBLIC_KEY_BYTES} bytes in a session's document, "
            f"found {len(document.public_key or b'')} bytes",
        )
    try:
        config = parse_key_config(evidence.key_config)
    except ContentError as exc:
        raise AttestationError(
            f"key configuration: attested, but not of protocol version 1 ({exc})",
            hint="use a client of the release that the enclave was built with",
            code="key-config",
        ) from exc
    _check_measured(document, config.card)
    _check_meant(expectation, document, config.card)
    transcript = transcript_hash(challenge_body(challenge), evidence.to_body())
    return VerifiedEnclave(
        document=document,
        evidence=evidence,
        requested_at=now if requested_at is None else requested_at,
        config=config,
        session_id=session_id(transcript),
        transcript=transcript,
    )


def _check_measured(document: VerifiedDocument, card: ModelCard) -> None:
    """Check that the card is the one that the enclave measured. Images of an older build measure none."""
    found, expected = document.pcrs.get(MODEL_PCR), model_register(card.to_json())
    if found is None or found == expected:
        return
    raise AttestationError(
        f"PCR{MODEL_PCR}: expected {expected.hex()[:16]}... of the card of {card.model_id}, found "
        f"{found.hex()[:16]}...: the card is not the one that the enclave measured",
        hint="send nothing to this enclave: it says that it has another model than it measured",
        code="model-register",
    )


def _check_meant(expectation: Expectation, document: VerifiedDocument, card: ModelCard) -> None:
    if expectation.module_id not in (None, document.module_id):
        raise AttestationError(
            f"module_id: expected {expectation.module_id}, found {document.module_id}: another enclave",
            hint="enclavectl list shows what runs; does something else listen at the enclave's address?",
            code="other-enclave",
        )
    wanted = expectation.card
    if wanted is not None and wanted != card:
        raise AttestationError(
            f"model: expected {wanted.model_id} with the weights {wanted.sha256[:16]}... and its "
            f"card, found {card.model_id} with {card.sha256[:16]}... and another card",
            hint="leave --model out to use the model that runs, or add --fresh to start another enclave",
            code="other-model",
        )


def check_same_model(expected: ModelCard, found: ModelCard) -> None:
    """Check that a batch's next session is with the model of its first.

    Raises:
        AttestationError: ``other-model``.
    """
    if found != expected:
        raise AttestationError(
            f"model: expected {expected.model_id} with the weights {expected.sha256[:16]}... as in the "
            f"session before, found {found.model_id} with {found.sha256[:16]}... or another card",
            hint="send the pictures that remain in a command of their own: another model answers them",
            code="other-model",
        )


def new_request(enclave: VerifiedEnclave, counter: int, picture: Picture) -> PendingAnswer:
    """Draw a fresh reply key and salt for the session's request ``counter``, which must grow each time."""
    return PendingAnswer(
        request_id=request_id(enclave.session_id, counter),
        reply_key=os.urandom(REPLY_KEY_BYTES),
        salt=os.urandom(REQUEST_SALT_BYTES),
        picture_sha256=bytes.fromhex(picture.sha256),
        media_type=picture.media_type,
    )


def seal_picture(
    enclave: VerifiedEnclave, pending: PendingAnswer, picture: Picture, delivery: Delivery
) -> Sealed:
    """Seal the request to classify ``picture``; ``pending`` opens the answer.

    Raises:
        AttestationError: an attested public key is not a key, which only a broken payload attests.
    """
    suite = enclave.suite()
    request = Request(
        picture=picture.data,
        media_type=picture.media_type,
        reply_key=pending.reply_key,
        salt=pending.salt,
        delivery=delivery,
    )
    info = request_info(suite, pending.request_id, enclave.transcript)
    try:
        ciphertext = seal_request(suite, enclave.config.public_keys[suite], request_content(request), info)
    except SealError as exc:
        raise AttestationError(
            f"suite {suite}: the attested public key is no key", code="key-config"
        ) from exc
    return Sealed(request_counter(pending.request_id), suite, ciphertext)


@dataclass(frozen=True, slots=True)
class Question:
    """What the receipt of a pending answer commits to, as far as it does not depend on the answer."""

    request_statement: bytes = field(repr=False)
    answer_salt: bytes = field(repr=False)

    @classmethod
    def of(cls, pending: PendingAnswer) -> Question:
        """Compute it: there is time while the enclave works."""
        asked = request_statement(pending.salt, pending.picture_sha256, pending.media_type)
        return cls(asked, answer_salt(pending.salt))


def open_reply(
    pending: PendingAnswer, answer: Answer, session: SessionEvidence, question: Question | None = None
) -> CheckedAnswer | None:
    """Open an answer of ``session`` and check its receipt; None for the notice that it comes elsewhere.

    ``question`` is that of ``pending``, if it was computed before.

    Raises:
        PeerProtocolError: not sealed under this request's key, or not an answer.
        ReceiptError: the receipt is missing, or does not fit the question, the answer or the session.
    """
    try:
        content = open_answer(pending.reply_key, answer.request_id, answer.kind, answer.ciphertext)
        if answer.kind is AnswerKind.RECEIPT:
            return None
        parts, outcome = _parse_answer(content, session.card)
    except (SealError, ContentError) as exc:
        raise PeerProtocolError(
            "answer: expected one sealed by the enclave for this request, found other bytes",
            hint="something between you and the enclave changes the traffic",
        ) from exc
    if outcome.problem:
        return CheckedAnswer(outcome=outcome, receipted=None)
    receipted = _check_receipt(question or Question.of(pending), parts, outcome, session)
    return CheckedAnswer(outcome=outcome, receipted=receipted)


def _parse_answer(content: bytes, card: ModelCard) -> tuple[AnswerContent, Outcome]:
    parts = parse_answer_content(content)
    outcome = name_outcome(parse_outcome(parts.outcome), card)
    if outcome.problem and parts.receipt is not None:
        raise ContentError("a problem has no receipt")
    return parts, outcome


def _check_receipt(
    question: Question, parts: AnswerContent, outcome: Outcome, session: SessionEvidence
) -> Receipted:
    """Check that the enclave of ``session`` signed this answer to this question; return what to keep."""
    if parts.receipt is None:
        raise ReceiptError(
            ReceiptCode.RECEIPT_MISSING,
            "answer: expected a signed receipt with the probabilities, found none",
        )
    receipt = parse_receipt(parts.receipt)
    check_receipt(
        receipt,
        document=session.document,
        document_bytes=session.received.document,
        key_config=session.received.key_config,
    )
    asked = question.request_statement
    answered = answer_statement(question.answer_salt, parts.outcome)
    check_commitments(receipt, request=asked, answer=answered)
    check_outcome_model(receipt, outcome)
    return Receipted(receipt=parts.receipt, request_statement=asked, answer_statement=answered)
