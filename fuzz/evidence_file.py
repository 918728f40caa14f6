"""Invariant: any bytes are an evidence file that is written back as it was read, or raise EvidenceError.

Lines of a batch's receipts likewise. What a verification of the file says never depends on what the file says
of itself: only a document under the trusted root is verified.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

from enclavectl.attestation import aws_nitro_root
from enclavectl.errors import UsageError
from enclavectl.evidence import Case, EvidenceError, EvidenceFile, KeptReceipt, Waiver, examine
from enclavectl.evidence.file import (
    RootName,
    content_sha256,
    parse_evidence_file,
    parse_receipt_line,
    receipt_line,
)
from enclavectl.evidence.reading import read_subject

_RECEIPT = KeptReceipt(receipt=b"\xd2receipt", request_statement=b"asked", answer_statement=None)
_FILE = EvidenceFile(
    document=bytes.fromhex("8444a1013822a041aa41bb"),
    key_config=b"key configuration",
    nonce=bytes(32),
    requested_at=datetime(2026, 5, 4, 12, tzinfo=UTC),
    root=RootName.of(aws_nitro_root()),
    receipts=(_RECEIPT,),
)

SEEDS: list[bytes] = [
    _FILE.to_bytes(),
    receipt_line(_RECEIPT, 0),
    receipt_line(_RECEIPT, 0) + receipt_line(_RECEIPT, 1),
    _FILE.document,
    _FILE.document.hex().encode(),
    b"hEShATgioEGqQbs=",
    b"",
]


def _rehashed(data: bytes) -> bytes:
    """Give the members in ``data`` a hash that fits, which a mutation would otherwise never have."""
    with suppress(ValueError, RecursionError):
        members = json.loads(data)
        if isinstance(members, dict):
            return json.dumps({**members, "content_sha256": content_sha256(members)}).encode()
    return data


def one(data: bytes) -> None:
    for candidate in (data, _rehashed(data)):
        with suppress(EvidenceError):
            found = parse_evidence_file(candidate)
            assert parse_evidence_file(found.to_bytes()) == found
    with suppress(EvidenceError):
        receipt = parse_receipt_line(data)
        assert parse_receipt_line(receipt_line(receipt, 0)) == receipt
    with suppress(EvidenceError, UsageError):
        subject = read_subject(data, name="fuzz")
        if subject.document is not None:
            verification = examine(
                Case(
                    document=subject.document,
                    root=aws_nitro_root(),
                    policy=Waiver.NO_POLICY,
                    at=Waiver.DOCUMENT_TIME,
                    nonce=Waiver.NO_NONCE,
                    evidence=subject.evidence,
                    receipts=subject.receipts,
                )
            )
            assert not verification.verified
            assert len([check for check in verification.checks if check.ok is False]) == 1
