"""What was asked and what was answered, in the two statements whose hashes a receipt has.

Each is a file that any tool can hash. Whoever has the request statement can test whether a picture that they
know was the one. The answer statement holds the answer itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from enclavectl.evidence.codes import ReceiptCode, ReceiptError
from enclavectl.protocol.cbor import CborError, Value, decode
from enclavectl.protocol.receipts import (
    answer_salt,
    answer_statement,
    request_statement,
)

__all__ = [
    "AnswerStatement",
    "Receipted",
    "RequestStatement",
    "answer_salt",
    "answer_statement",
    "parse_answer_statement",
    "parse_request_statement",
    "request_statement",
]

# An answer's content has 4,092 bytes at most; a request statement has a hundred.
MAX_STATEMENT_BYTES = 8 * 1024
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipted:
    """What a client keeps of an answer: the receipt, and the statements to which it commits."""

    receipt: bytes
    request_statement: bytes = field(repr=False)
    answer_statement: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStatement:
    """The hash of the picture that was asked about, and its media type."""

    salt: bytes = field(repr=False)
    picture_sha256: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStatement:
    """The answer, as the bytes that ``enclavectl.protocol.answers.parse_outcome`` reads."""

    salt: bytes = field(repr=False)
    outcome: bytes = field(repr=False)


def parse_request_statement(data: bytes) -> RequestStatement:
    """Read what ``request_statement`` wrote.

    Raises:
        ReceiptError: ``statement-form``.
    """
    match _fields(data, "request"):
        case {"salt": bytes(salt), "picture": bytes(picture), "media_type": str(media_type), **others}:
            if not others and len(salt) == len(picture) == _HASH_BYTES:
                return RequestStatement(salt=salt, picture_sha256=picture, media_type=media_type)
    raise _form("request", "salt, picture and media_type")


def parse_answer_statement(data: bytes) -> AnswerStatement:
    """Read what ``answer_statement`` wrote.

    Raises:
        ReceiptError: ``statement-form``.
    """
    match _fields(data, "answer"):
        case {"salt": bytes(salt), "outcome": bytes(outcome), **others}:
            if not others and len(salt) == _HASH_BYTES:
                return AnswerStatement(salt=salt, outcome=outcome)
    raise _form("answer", "salt and outcome")


def _fields(data: bytes, which: str) -> Value:
    try:
        return decode(data, max_bytes=MAX_STATEMENT_BYTES)
    except CborError as exc:
        raise ReceiptError(ReceiptCode.STATEMENT_FORM, f"{which} statement: {exc}") from exc


def _form(which: str, names: str) -> ReceiptError:
    return ReceiptError(ReceiptCode.STATEMENT_FORM, f"{which} statement: expected a map of {names}")
