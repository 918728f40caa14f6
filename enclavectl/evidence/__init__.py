"""What one keeps of a verdict: evidence files, signed receipts, and the checklist that judges them.

    evidence = parse_evidence_file(data)
    verification = examine(Case(document=evidence.document, evidence=evidence, root=root, policy=policy,
                                at=Waiver.DOCUMENT_TIME, nonce=Waiver.NO_NONCE))
    facts = verification.require()

The room's rules: reading is not judging (``parse_receipt`` trusts nothing). A receipt's key comes from a
document that ``enclavectl.attestation`` has judged, and from nowhere else.
"""

from enclavectl.evidence.air import Receipt, parse_receipt
from enclavectl.evidence.codes import ReceiptCode, ReceiptError
from enclavectl.evidence.examination import examine
from enclavectl.evidence.file import (
    EvidenceCode,
    EvidenceError,
    EvidenceFile,
    KeptReceipt,
    RootName,
    parse_evidence_file,
)
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
from enclavectl.evidence.verification import Case, Check, CheckedReceipt, Verification, Waiver

__all__ = [
    "AnswerStatement",
    "Case",
    "Check",
    "CheckedReceipt",
    "EvidenceCode",
    "EvidenceError",
    "EvidenceFile",
    "KeptReceipt",
    "Receipt",
    "ReceiptCode",
    "ReceiptError",
    "Receipted",
    "RequestStatement",
    "RootName",
    "Verification",
    "Waiver",
    "answer_statement",
    "check_commitments",
    "check_outcome",
    "check_outcome_model",
    "check_picture",
    "check_receipt",
    "check_statements",
    "examine",
    "parse_answer_statement",
    "parse_evidence_file",
    "parse_receipt",
    "parse_request_statement",
    "request_statement",
]
