"""The form of signed receipts and statements, as the enclave writes them."""

from __future__ import annotations

from enclave_payload.receipt import (
    PROFILE,
    PROTECTED,
    TAG,
    Claim,
    SecurityMode,
    answer_salt,
    answer_statement,
    envelope,
    request_statement,
    to_be_signed,
)

__all__ = [
    "PROFILE",
    "PROTECTED",
    "TAG",
    "Claim",
    "SecurityMode",
    "answer_salt",
    "answer_statement",
    "envelope",
    "request_statement",
    "to_be_signed",
]
