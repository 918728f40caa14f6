"""The checks that hold a receipt to the document that vouches for its key, and to its statements.

Nothing here judges the document: that is ``enclavectl.attestation``, whose results this takes. So a receipt
that passes is worth what its document is worth, which is little where no policy judged it.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

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
from enclavectl.protocol.answers import ContentError, Outcome, parse_outcome
from enclavectl.protocol.key_config import (
    MODEL_PCR,
    key_config_digest,
    model_register,
    parse_key_config,
)
from enclavectl.protocol.receipts import SecurityMode, answer_statement

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
    7. It claims to come from production exactly if the trust in its document is that of a measured enclave.

    Raises:
        ReceiptError: its code is one of those of the document.
    """
    # 1. Document
    found = hashlib.sha256(document_bytes).digest()
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
    _check_session(receipt, document, key_config)
    # 5. Model
    if key_config is not None:
        _check_model(receipt, document, key_config)
    # 6. Time
    _check_time(receipt, document)
    # 7. Mode
    _check_mode(receipt, document)


def check_request_statement(receipt: Receipt, statement: bytes) -> RequestStatement:
    """Check that the receipt commits to this request statement, and read it.

    Raises:
        ReceiptError: ``request-mismatch`` or ``statement-form``.
    """
    found = hashlib.sha256(statement).digest()
    if found != receipt.request_hash:
        raise ReceiptError(
            ReceiptCode.REQUEST_MISMATCH,
            f"request statement: expected the SHA-256 {receipt.request_hash.hex()}, found {found.hex()}",
        )
    return parse_request_statement(statement)


def check_answer_statement(receipt: Receipt, statement: bytes) -> AnswerStatement:
    """Check that the receipt commits to this answer statement, and read it.

    Raises:
        ReceiptError: ``answer-mismatch`` or ``statement-form``.
    """
    found = hashlib.sha256(statement).digest()
    if found != receipt.response_hash:
        raise ReceiptError(
            ReceiptCode.ANSWER_MISMATCH,
            f"answer statement: expected the SHA-256 {receipt.response_hash.hex()}, found {found.hex()}",
        )
    return parse_answer_statement(statement)


def check_statements(
    receipt: Receipt, *, request: bytes | None, answer: bytes | None
) -> tuple[RequestStatement | None, AnswerStatement | None]:
    """Check that the receipt commits to the statements, of which None is not there, and read them.

    Raises:
        ReceiptError: ``request-mismatch``, ``answer-mismatch`` or ``statement-form``.
    """
    asked = None if request is None else check_request_statement(receipt, request)
    answered = None if answer is None else check_answer_statement(receipt, answer)
    if asked and answered and answer != answer_statement(asked.salt, answered.outcome):
        raise ReceiptError(
            ReceiptCode.ANSWER_MISMATCH, "answer statement: expected the salt that follows from the request's"
        )
    return asked, answered


def check_outcome(receipt: Receipt, statement: AnswerStatement) -> Outcome:
    """Read the answer in the statement, and check that it is one of the receipt's model.

    Raises:
        ReceiptError: ``statement-form`` or ``answer-mismatch``.
    """
    try:
        outcome = parse_outcome(statement.outcome)
    except ContentError as exc:
        raise ReceiptError(
            ReceiptCode.STATEMENT_FORM, f"answer statement: expected an outcome ({exc})"
        ) from exc
    if (outcome.model_id, outcome.model_sha256) != (receipt.model_id, receipt.model_hash.hex()):
        raise ReceiptError(
            ReceiptCode.ANSWER_MISMATCH, "answer statement: expected the receipt's model, found another"
        )
    if outcome.probabilities_ppb is None:
        raise ReceiptError(
            ReceiptCode.ANSWER_MISMATCH, "answer statement: expected probabilities, found a problem"
        )
    return outcome


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


def _check_session(receipt: Receipt, document: _Document, key_config: bytes | None) -> None:
    if receipt.eat_nonce is None or receipt.eat_nonce != document.nonce:
        raise ReceiptError(
            ReceiptCode.RECEIPT_NONCE, "eat_nonce: expected the document's nonce, found another or none"
        )
    if key_config is not None and key_config_digest(key_config) != document.user_data:
        raise ReceiptError(
            ReceiptCode.RECEIPT_KEY_CONFIG,
            "key configuration: expected the one that the document's user data commits to, found another",
        )


def _check_model(receipt: Receipt, document: _Document, key_config: bytes) -> None:
    try:
        card = parse_key_config(key_config).card
    except ContentError as exc:
        raise ReceiptError(
            ReceiptCode.RECEIPT_KEY_CONFIG, f"key configuration: attested, but not of this protocol ({exc})"
        ) from exc
    if (receipt.model_id, receipt.model_hash.hex()) != (card.model_id, card.sha256):
        raise ReceiptError(
            ReceiptCode.RECEIPT_MODEL,
            f"model: expected {card.model_id} with the weights {card.sha256[:16]}..., "
            f"found {receipt.model_id:.64} with {receipt.model_hash.hex()[:16]}...",
        )
    pinned = document.pcrs.get(MODEL_PCR)
    if pinned is not None and pinned != model_register(card.to_json()):
        raise ReceiptError(
            ReceiptCode.RECEIPT_MODEL,
            f"PCR{MODEL_PCR}: expected the register of {card.model_id}, found {pinned.hex()[:16]}...",
        )


def _check_time(receipt: Receipt, document: _Document) -> None:
    earliest, latest = document.timestamp, document.chain[-1].not_after
    # Differences, because a sum may leave the range of datetime.
    if earliest - receipt.issued_at > CLOCK_SKEW or receipt.issued_at - latest > CLOCK_SKEW:
        raise ReceiptError(
            ReceiptCode.RECEIPT_TIME,
            f"iat: expected a time from {earliest:%Y-%m-%d %H:%M:%S %Z} to {latest:%Y-%m-%d %H:%M:%S %Z}, "
            f"for which the document vouches, found {receipt.issued_at:%Y-%m-%d %H:%M:%S %Z}",
        )


def _check_mode(receipt: Receipt, document: _Document) -> None:
    if document.trust is Trust.EMULATED:
        return  # the payload sees a real /dev/nsm in QEMU and cannot tell
    expected = SecurityMode.PRODUCTION if document.trust is Trust.NITRO else SecurityMode.EVALUATION
    if receipt.security_mode is not expected:
        raise ReceiptError(
            ReceiptCode.RECEIPT_MODE,
            f"security_mode: expected {expected} under a document of trust {document.trust}, "
            f"found {receipt.security_mode}",
        )
