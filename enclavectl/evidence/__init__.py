"""What one keeps of a verdict: evidence files, signed receipts, and the checklist that judges them.

    evidence = parse_evidence_file(data)
    verification = examine(Case(document=evidence.document, evidence=evidence, root=root, policy=policy,
                                at=Waiver.DOCUMENT_TIME, nonce=Waiver.NO_NONCE))
    facts = verification.require()

The room's rules: reading is not judging (``parse_receipt`` trusts nothing). A receipt's key comes from a
document that ``enclavectl.attestation`` has judged, and from nowhere else.

Names are imported when they are first used: a session checks receipts, and needs neither files nor checklist.
"""

from typing import TYPE_CHECKING

from enclavectl.lazy_names import lazy_names

if TYPE_CHECKING:
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
        answer_salt,
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
    "answer_salt",
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
_PLACES = {
    "AnswerStatement": "evidence.statements",
    "Case": "evidence.verification",
    "Check": "evidence.verification",
    "CheckedReceipt": "evidence.verification",
    "EvidenceCode": "evidence.file",
    "EvidenceError": "evidence.file",
    "EvidenceFile": "evidence.file",
    "KeptReceipt": "evidence.file",
    "Receipt": "evidence.air",
    "ReceiptCode": "evidence.codes",
    "ReceiptError": "evidence.codes",
    "Receipted": "evidence.statements",
    "RequestStatement": "evidence.statements",
    "RootName": "evidence.file",
    "Verification": "evidence.verification",
    "Waiver": "evidence.verification",
    "answer_salt": "evidence.statements",
    "answer_statement": "evidence.statements",
    "check_commitments": "evidence.receipt_check",
    "check_outcome": "evidence.receipt_check",
    "check_outcome_model": "evidence.receipt_check",
    "check_picture": "evidence.receipt_check",
    "check_receipt": "evidence.receipt_check",
    "check_statements": "evidence.receipt_check",
    "examine": "evidence.examination",
    "parse_answer_statement": "evidence.statements",
    "parse_evidence_file": "evidence.file",
    "parse_receipt": "evidence.air",
    "parse_request_statement": "evidence.statements",
    "request_statement": "evidence.statements",
}

if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, _PLACES)
