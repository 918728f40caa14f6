"""What one keeps of a verdict: signed receipts, and the checks that hold one to its document.

    receipt = parse_receipt(data)
    check_receipt(receipt, document=document, document_bytes=raw, key_config=key_config)

The room's rules: reading is not judging (``parse_receipt`` trusts nothing). A receipt's key comes from a
document that ``enclavectl.attestation`` has judged, and from nowhere else.
"""

from enclavectl.evidence.air import Receipt, parse_receipt
from enclavectl.evidence.codes import ReceiptCode, ReceiptError
from enclavectl.evidence.receipt_check import (
    check_commitments,
    check_outcome,
    check_outcome_model,
    check_picture,
    check_receipt,
    check_statements,
)
from enclavectl.evidence.statements import (
    AnswerStatement,
    Receipted,
    RequestStatement,
    answer_statement,
    parse_answer_statement,
    parse_request_statement,
    request_statement,
)

__all__ = [
    "AnswerStatement",
    "Receipt",
    "ReceiptCode",
    "ReceiptError",
    "Receipted",
    "RequestStatement",
    "answer_statement",
    "check_commitments",
    "check_outcome",
    "check_outcome_model",
    "check_picture",
    "check_receipt",
    "check_statements",
    "parse_answer_statement",
    "parse_receipt",
    "parse_request_statement",
    "request_statement",
]
