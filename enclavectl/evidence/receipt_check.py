"""The checks that hold a receipt to the document that vouches for its key, and to its statements.

Nothing here judges the document: that is ``enclavectl.attestation``, whose results this takes. So a receipt
that passes is worth what its document is worth, which is little where no policy judged it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from enclavectl.attestation import ArchivedDocument, Trust, VerifiedDocument
from enclavectl.evidence.air import Receipt, check_signature
from enclavectl.evidence.claims import NITRO
from enclavectl.evidence.codes import ReceiptCode, ReceiptError
from enclavectl.evidence.statements import (
    AnswerStatement,
    RequestStatement,
    parse_answer_statement,
    parse_request_statement,
)
from enclavectl.protocol.answers import ContentError, Outcome, name_outcome, parse_outcome
from enclavectl.protocol.key_config import (
    MODEL_PCR,
    ModelCard,
    key_config_digest,
    model_register,
    parse_key_config,
)
from enclavectl.protocol.receipts import SecurityMode, answer_salt, answer_statement

# Document and receipt are of one enclave, but the hypervisor and the enclave's kernel each have a clock, and
# receipts count whole seconds.
CLOCK_SKEW = timedelta(minutes=2)

_Document = VerifiedDocument | ArchivedDocument


def check_receipt(
    receipt: Receipt, *, document: _Document, document_bytes: bytes, key_config: bytes | None
) -> None:
    """Check that the document vouches for the receipt's key, and that both speak of one session.

    ``document_bytes`` are those of ``document``, and ``key_config`` is what its user data commits to; None
    for a verifier that has the bare document only: then half of step 4, and step 5, are not checked.
    The steps are these, after ``parse_receipt`` and after the document was judged:

    1. The receipt names this document, byte for byte.
    2. The document's public key signed the receipt.
    3. It is a Nitro receipt, and its registers are the document's.
    4. It has the nonce of the document's session, and the key configuration is that session's.
    5. Its model is the card of the key configuration, and, where the document has PCR16, the model in it.
    6. Its time is one at which the document's leaf certificate was valid, after the document was made.
    7. It claims to come from production under trust ``nitro``, and does not under ``debug``.

    Raises:
        ReceiptError: its code is one of those of the document.
    """
    session = _read_session(document_bytes, key_config)
    # 1. Document
    found = session.document_sha256
    if found != receipt.attestation_doc_hash:
        raise ReceiptError(
            ReceiptCode.DOCUMENT_MISMATCH,
            f"document: expected the SHA-256 {receipt.attestation_doc_hash.hex()}, found {found.hex()}",
        )
    # 2. Key
    check_signature(receipt, document.public_key)
    # 3. Registers
    _check_registers(receipt, document)
    # 4. Session
    _check_session(receipt, document, session)
    # 5. Model
    if key_config is not None:
        _check_model(receipt, document, session)
    # 6. Time
    _check_time(receipt, document)
    # 7. Mode
    _check_mode(receipt, document)


def check_commitments(receipt: Receipt, *, request: bytes | None, answer: bytes | None) -> None:
    """Check that the receipt commits to the statements, of which None is not there, unread.

    Raises:
        ReceiptError: ``request-mismatch`` or ``answer-mismatch``.
    """
    for code, name, statement, expected in (
        (ReceiptCode.REQUEST_MISMATCH, "request", request, receipt.request_hash),
        (ReceiptCode.ANSWER_MISMATCH, "answer", answer, receipt.response_hash),
    ):
        if statement is not None and (found := hashlib.sha256(statement).digest()) != expected:
            raise ReceiptError(
                code, f"{name} statement: expected the SHA-256 {expected.hex()}, found {found.hex()}"
            )


def check_statements(
    receipt: Receipt, *, request: bytes | None, answer: bytes | None
) -> tuple[RequestStatement | None, AnswerStatement | None]:
    """Check that the receipt commits to the statements, of which None is not there, and read them.

    Raises:
        ReceiptError: ``request-mismatch``, ``answer-mismatch`` or ``statement-form``.
    """
    check_commitments(receipt, request=request, answer=answer)
    asked = None if request is None else parse_request_statement(request)
    answered = None if answer is None else parse_answer_statement(answer)
    if asked and answered and answer != answer_statement(answer_salt(asked.salt), answered.outcome):
        raise ReceiptError(
            ReceiptCode.ANSWER_MISMATCH, "answer statement: expected the salt that follows from the request's"
        )
    return asked, answered


def check_outcome(receipt: Receipt, statement: AnswerStatement, card: ModelCard | None = None) -> Outcome:
    """Read the answer in the statement, and check that it is one of the receipt's model.

    Raises:
        ReceiptError: ``statement-form`` or ``answer-mismatch``.
    """
    try:
        outcome = parse_outcome(statement.outcome)
        if card is not None:
            outcome = name_outcome(outcome, card)
    except ContentError as exc:
        raise ReceiptError(
            ReceiptCode.STATEMENT_FORM, f"answer statement: expected an outcome ({exc})"
        ) from exc
    check_outcome_model(receipt, outcome)
    return outcome


def check_outcome_model(receipt: Receipt, outcome: Outcome) -> None:
    """Check that the outcome has probabilities, of the receipt's model.

    Raises:
        ReceiptError: ``answer-mismatch``.
    """
    if (outcome.model_id, outcome.model_sha256) != (receipt.model_id, receipt.model_hash.hex()):
        raise ReceiptError(
            ReceiptCode.ANSWER_MISMATCH, "answer statement: expected the receipt's model, found another"
        )
    if outcome.problem is not None:
        raise ReceiptError(
            ReceiptCode.ANSWER_MISMATCH, "answer statement: expected probabilities, found a problem"
        )


def check_picture(statement: RequestStatement, picture: bytes) -> None:
    """Check that the statement is about this picture.

    Raises:
        ReceiptError: ``picture-mismatch``.
    """
    found = hashlib.sha256(picture).digest()
    if found != statement.picture_sha256:
        raise ReceiptError(
            ReceiptCode.PICTURE_MISMATCH,
            f"picture: expected the SHA-256 {statement.picture_sha256.hex()}, found {found.hex()}",
        )


def _check_registers(receipt: Receipt, document: _Document) -> None:
    if receipt.measurement_type != NITRO:
        raise ReceiptError(
            ReceiptCode.NOT_NITRO,
            f"measurement_type: expected {NITRO}, found {receipt.measurement_type}: not a Nitro receipt",
        )
    for index, register in receipt.pcrs.items():
        attested = document.pcrs.get(index)
        if attested != register:
            found = "none" if attested is None else f"{attested.hex()[:16]}..."
            raise ReceiptError(
                ReceiptCode.RECEIPT_PCRS,
                f"PCR{index}: expected the receipt's {register.hex()[:16]}... in the document, found {found}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """What all receipts of a session are held to.

    ``card`` is None where the key configuration has none, ``user_data`` where there is no key configuration.
    """

    document_sha256: bytes
    user_data: bytes | None
    card: ModelCard | None
    register: bytes | None


# Reading it takes as long as checking a receipt, and the receipts of a batch are of few sessions.
@lru_cache(maxsize=4)
def _read_session(document_bytes: bytes, key_config: bytes | None) -> _Session:
    try:
        card = None if key_config is None else parse_key_config(key_config).card
    except ContentError:
        card = None
    return _Session(
        document_sha256=hashlib.sha256(document_bytes).digest(),
        user_data=None if key_config is None else key_config_digest(key_config),
        card=card,
        register=None if card is None else model_register(card.to_json()),
    )


def _check_session(receipt: Receipt, document: _Document, session: _Session) -> None:
    if receipt.eat_nonce is None or receipt.eat_nonce != document.nonce:
        raise ReceiptError(
            ReceiptCode.RECEIPT_NONCE, "eat_nonce: expected the document's nonce, found another or none"
        )
    if session.user_data not in (None, document.user_data):
        raise ReceiptError(
            ReceiptCode.RECEIPT_KEY_CONFIG,
            "key configuration: expected the one that the document's user data commits to, found another",
        )


def _check_model(receipt: Receipt, document: _Document, session: _Session) -> None:
    card = session.card
    if card is None:
        raise ReceiptError(
            ReceiptCode.RECEIPT_KEY_CONFIG, "key configuration: attested, but not of this protocol"
        )
    if (receipt.model_id, receipt.model_hash.hex()) != (card.model_id, card.sha256):
        raise ReceiptError(
            ReceiptCode.RECEIPT_MODEL,
            f"model: expected {card.model_id} with the weights {card.sha256[:16]}..., "
            f"found {receipt.model_id:.64} with {receipt.model_hash.hex()[:16]}...",
        )
    pinned = document.pcrs.get(MODEL_PCR)
    if pinned is not None and pinned != session.register:
        raise ReceiptError(
            ReceiptCode.RECEIPT_MODEL,
            f"PCR{MODEL_PCR}: expected the register of {card.model_id}, found {pinned.hex()[:16]}...",
        )


def _check_time(receipt: Receipt, document: _Document) -> None:
    earliest, latest = document.timestamp, document.ends
    # Differences, because a sum may leave the range of datetime.
    if earliest - receipt.issued_at > CLOCK_SKEW or receipt.issued_at - latest > CLOCK_SKEW:
        raise ReceiptError(
            ReceiptCode.RECEIPT_TIME,
            f"iat: expected a time from {earliest:%Y-%m-%d %H:%M:%S %Z} to {latest:%Y-%m-%d %H:%M:%S %Z}, "
            f"for which the document vouches, found {receipt.issued_at:%Y-%m-%d %H:%M:%S %Z}",
        )


def _check_mode(receipt: Receipt, document: _Document) -> None:
    # A payload in a virtual machine sees a /dev/nsm and cannot tell whose. The document tells.
    expected = {Trust.NITRO: SecurityMode.PRODUCTION, Trust.DEBUG: SecurityMode.EVALUATION}.get(
        document.trust
    )
    if expected is not None and receipt.security_mode is not expected:
        raise ReceiptError(
            ReceiptCode.RECEIPT_MODE,
            f"security_mode: expected {expected} under a document of trust {document.trust}, "
            f"found {receipt.security_mode}",
        )
