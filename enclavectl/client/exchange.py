"""The client's half of a session, without I/O: verify, then seal. The types allow no other order.

Only ``verify_evidence`` makes a ``VerifiedEnclave``, and ``seal_picture`` requires one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from enclavectl.attestation import Policy, TrustRoot, VerifiedDocument, verify
from enclavectl.client.pictures import Picture
from enclavectl.errors import AttestationError, PeerProtocolError
from enclavectl.protocol.answers import Answer, AnswerKind, ContentError, Outcome, parse_outcome
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
from enclavectl.protocol.requests import (
    REPLY_KEY_BYTES,
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
    root: TrustRoot
    module_id: str | None = None
    card: ModelCard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedEnclave:
    """An enclave whose evidence was verified, and the session of that evidence."""

    document: VerifiedDocument
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

    def suite(self) -> SuiteId:
        """Choose the best suite that the enclave offers; ids are in the order of preference."""
        return min(self.config.public_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAnswer:
    """The key to the answer of one request. Secret: kept in memory, or in a 0600 file for ``listen``."""

    request_id: bytes
    reply_key: bytes

    def __repr__(self) -> str:
        return f"PendingAnswer({self.request_id.hex()})"


def new_challenge() -> Challenge:
    """Draw a fresh challenge, which no earlier document can answer."""
    return Challenge(os.urandom(NONCE_BYTES))


def verify_evidence(
    challenge: Challenge, evidence: Evidence, expectation: Expectation, now: datetime
) -> VerifiedEnclave:
    """Verify that the enclave's document is signed, fresh, allowed, and commits to its keys.

    Raises:
        AttestationError: any rule of ``attestation.verify`` is broken, the attested key configuration is
            not one of this protocol, its card is not the one that PCR16 measures, or it is another enclave or
            another model than the one that is meant.
    """
    document = verify(
        evidence.document,
        expectation.policy,
        root=expectation.root,
        nonce=challenge.nonce,
        user_data=key_config_digest(evidence.key_config),
        now=now,
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
        document=document, config=config, session_id=session_id(transcript), transcript=transcript
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


def new_request(enclave: VerifiedEnclave, counter: int) -> PendingAnswer:
    """Draw a fresh reply key for the session's request ``counter``, which must grow with each request."""
    return PendingAnswer(
        request_id=request_id(enclave.session_id, counter), reply_key=os.urandom(REPLY_KEY_BYTES)
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
        picture=picture.data, media_type=picture.media_type, reply_key=pending.reply_key, delivery=delivery
    )
    info = request_info(suite, pending.request_id, enclave.transcript)
    try:
        ciphertext = seal_request(suite, enclave.config.public_keys[suite], request_content(request), info)
    except SealError as exc:
        raise AttestationError(
            f"suite {suite}: the attested public key is no key", code="key-config"
        ) from exc
    return Sealed(request_counter(pending.request_id), suite, ciphertext)


def open_reply(pending: PendingAnswer, answer: Answer) -> Outcome | None:
    """Open an answer and return its outcome; None for the receipt of an answer that comes elsewhere.

    Raises:
        PeerProtocolError: not sealed under this request's key, or not an outcome.
    """
    try:
        content = open_answer(pending.reply_key, answer.request_id, answer.kind, answer.ciphertext)
        return None if answer.kind is AnswerKind.RECEIPT else parse_outcome(content)
    except (SealError, ContentError) as exc:
        raise PeerProtocolError(
            "answer: expected one sealed by the enclave for this request, found other bytes",
            hint="something between you and the enclave changes the traffic",
        ) from exc
