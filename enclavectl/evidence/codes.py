"""The codes of all defects of a signed receipt, and hints for the next step."""

from __future__ import annotations

from enum import StrEnum

from enclavectl.errors import AttestationError


class ReceiptCode(StrEnum):
    """The stable ``code`` of a ReceiptError. Scripts match on these, so none is ever renamed."""

    # The bytes
    RECEIPT_SIZE = "receipt-size"
    RECEIPT_TAG = "receipt-tag"
    RECEIPT_CBOR = "receipt-cbor"
    RECEIPT_STRUCTURE = "receipt-structure"
    RECEIPT_ALGORITHM = "receipt-algorithm"
    RECEIPT_ENCODING = "receipt-encoding"
    # The claims
    CLAIM_MISSING = "claim-missing"
    CLAIM_UNKNOWN = "claim-unknown"
    CLAIM_FORM = "claim-form"
    CLAIM_ZERO = "claim-zero"
    RECEIPT_PROFILE = "receipt-profile"
    RECEIPT_MEASUREMENTS = "receipt-measurements"
    HASH_SCHEME = "hash-scheme"
    SECURITY_MODE = "security-mode"
    # The document that vouches for the key
    DOCUMENT_MISMATCH = "document-mismatch"
    NO_RECEIPT_KEY = "no-receipt-key"
    RECEIPT_SIGNATURE = "receipt-signature"
    NOT_NITRO = "not-nitro"
    RECEIPT_PCRS = "receipt-pcrs"
    RECEIPT_NONCE = "receipt-nonce"
    RECEIPT_KEY_CONFIG = "receipt-key-config"
    RECEIPT_MODEL = "receipt-model"
    RECEIPT_TIME = "receipt-time"
    RECEIPT_MODE = "receipt-mode"
    # What was asked and answered
    STATEMENT_MISSING = "statement-missing"
    STATEMENT_FORM = "statement-form"
    REQUEST_MISMATCH = "request-mismatch"
    ANSWER_MISMATCH = "answer-mismatch"
    PICTURE_MISMATCH = "picture-mismatch"
    RECEIPT_MISSING = "receipt-missing"
    RECEIPT_REPEATED = "receipt-repeated"


_DAMAGED = (
    "The file is no receipt, or was damaged. Get it again from whoever kept it; "
    "a receipt is binary, so copy it as a file and not as text."
)
_NOT_AIR = "The receipt does not follow AIR version 1: ask its signer for one that does."
_OTHER = "Look for the document of the same session: a receipt counts only with the document that it names."
_FALSE = "Do not rely on this receipt: it and its document contradict each other."
_PAIR = "Look for the statement that was kept with this receipt; one of another answer does not fit."

_HINTS = {
    ReceiptCode.RECEIPT_SIZE: _DAMAGED,
    ReceiptCode.RECEIPT_TAG: _DAMAGED,
    ReceiptCode.RECEIPT_CBOR: _DAMAGED,
    ReceiptCode.RECEIPT_STRUCTURE: _DAMAGED,
    ReceiptCode.RECEIPT_ALGORITHM: _NOT_AIR,
    ReceiptCode.RECEIPT_ENCODING: _NOT_AIR,
    ReceiptCode.CLAIM_MISSING: _NOT_AIR,
    ReceiptCode.CLAIM_UNKNOWN: _NOT_AIR,
    ReceiptCode.CLAIM_FORM: _NOT_AIR,
    ReceiptCode.CLAIM_ZERO: _NOT_AIR,
    ReceiptCode.RECEIPT_PROFILE: _NOT_AIR,
    ReceiptCode.RECEIPT_MEASUREMENTS: _NOT_AIR,
    ReceiptCode.HASH_SCHEME: _NOT_AIR,
    ReceiptCode.SECURITY_MODE: _NOT_AIR,
    ReceiptCode.DOCUMENT_MISMATCH: _OTHER,
    ReceiptCode.NO_RECEIPT_KEY: "This document vouches for no receipt key: it cannot prove a receipt.",
    ReceiptCode.RECEIPT_SIGNATURE: _FALSE,
    ReceiptCode.NOT_NITRO: "Only receipts of a Nitro enclave can be held to a Nitro document.",
    ReceiptCode.RECEIPT_PCRS: _FALSE,
    ReceiptCode.RECEIPT_NONCE: _FALSE,
    ReceiptCode.RECEIPT_KEY_CONFIG: "Look for the key configuration of the same session as the document.",
    ReceiptCode.RECEIPT_MODEL: _FALSE,
    ReceiptCode.RECEIPT_TIME: (
        "A document vouches for three hours, as its leaf certificate does. "
        "If the session was longer, connect again; else compare the clocks."
    ),
    ReceiptCode.RECEIPT_MODE: "Do not rely on this receipt: it claims to come from where it does not.",
    ReceiptCode.STATEMENT_MISSING: (
        "Only a request statement says which picture a receipt is about: "
        "keep the evidence with --include-statements."
    ),
    ReceiptCode.STATEMENT_FORM: _PAIR,
    ReceiptCode.REQUEST_MISMATCH: _PAIR,
    ReceiptCode.ANSWER_MISMATCH: _PAIR,
    ReceiptCode.PICTURE_MISMATCH: "Look for the picture as it was sent; a copy that was saved again differs.",
    ReceiptCode.RECEIPT_REPEATED: "The file was changed: one answer would look like several. Take one out.",
    ReceiptCode.RECEIPT_MISSING: "Does the enclave run a payload of this release? Build and start it again.",
}


class ReceiptError(AttestationError):
    """A signed receipt cannot be read, or does not fit its document or its statements."""

    def __init__(self, code: ReceiptCode, message: str, *, hint: str | None = None) -> None:
        """``message`` says what was expected and what was found; ``hint`` replaces that of the code."""
        super().__init__(message, hint=hint or _HINTS[code], code=code)
