"""What a file given to ``verify`` is: a document in one of three spellings, an evidence file, or receipts."""

from __future__ import annotations

import codecs
from contextlib import suppress
from dataclasses import dataclass

from enclavectl.attestation.spelling import decode_document
from enclavectl.errors import UsageError
from enclavectl.evidence.file import (
    MAX_BATCH_RECEIPTS,
    RECEIPT_SCHEMA,
    SCHEMA,
    EvidenceCode,
    EvidenceError,
    EvidenceFile,
    KeptReceipt,
    parse_evidence_file,
    parse_receipt_line,
)

# The first bytes of every signed receipt: the tag, an array of four, and the one protected header.
RECEIPT_MAGIC = bytes.fromhex("d28446a2012703183d")
_SPACE = b" \t\r\n"
# An object's schema is its first member.
_HEAD_BYTES = 200
# What editors and shells on Windows put before text. Neither a document nor a receipt begins so.
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a file holds: a document, perhaps with the evidence file around it, or receipts without one."""

    document: bytes | None = None
    evidence: EvidenceFile | None = None
    receipts: tuple[KeptReceipt, ...] = ()


def read_subject(data: bytes, *, name: str) -> Subject:
    """Tell what the file ``name`` holds, and read it. Nothing is judged.

    Bytes that are no text count as a document: whatever is wrong with them, the recipe names it.

    Raises:
        UsageError: the file is empty.
        EvidenceError: ``evidence-file`` or ``encoding``.
    """
    data = _as_utf8(data, name)
    if not data.strip(_SPACE):
        raise UsageError(f"{name}: expected a document, an evidence file or a receipt, found nothing")
    if data.startswith(RECEIPT_MAGIC):
        return Subject(receipts=(KeptReceipt(receipt=data),))
    text = data.strip(_SPACE)
    if not text.startswith(b"{"):
        document = _document(data, name)
        _require_no_receipt(document, name)
        return Subject(document=document)
    if is_batch(text):
        return Subject(receipts=_receipts(text))
    evidence = parse_evidence_file(data)
    return Subject(document=evidence.document, evidence=evidence, receipts=evidence.receipts)


def read_receipts(data: bytes, *, name: str) -> tuple[KeptReceipt, ...]:
    """Read a receipt, or the lines of a batch's receipts, of the file ``name``, which should hold such.

    Raises:
        EvidenceError: ``evidence-file``: a line is not one of a receipt, or there are too many; ``encoding``.
    """
    data = _as_utf8(data, name)
    text = data.strip(_SPACE)
    if _is_evidence(text):
        raise EvidenceError(
            EvidenceCode.FILE,
            f"{name}: expected receipts beside --document, found an evidence file",
            hint="It has its own document and receipts: leave --document out.",
        )
    if text.startswith(b"{"):
        return _receipts(text)
    if not data.startswith(RECEIPT_MAGIC):
        with suppress(UsageError):  # other text: the reader of receipts says what is wrong with it
            _require_no_receipt(decode_document(data, name=name), name)
    return (KeptReceipt(receipt=data),)


def _require_no_receipt(decoded: bytes, name: str) -> None:
    """Refuse the text of a receipt: it is signed, kept and named by its bytes.

    Raises:
        EvidenceError: ``encoding``.
    """
    if decoded.startswith(RECEIPT_MAGIC):
        raise EvidenceError(
            EvidenceCode.ENCODING,
            f"{name}: expected a receipt in binary, found one in hex or base64",
            hint="xxd -r -p FILE answer.air makes one from hex, base64 -d FILE > answer.air from base64.",
        )


def holds_receipts(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` calls itself an evidence file or a batch's receipts."""
    for mark, codec in _MARKS:
        if head.startswith(mark):
            head = head[: 2 * _HEAD_BYTES].decode(codec, errors="ignore").encode()
            break
    text = head.lstrip(_SPACE)
    return is_batch(text) or _is_evidence(text)


def is_batch(data: bytes) -> bool:
    """Return whether a file that begins with ``data`` has the receipts of a batch, one on a line."""
    return _names(RECEIPT_SCHEMA, data[:_HEAD_BYTES].partition(b"\n")[0])


def _is_evidence(text: bytes) -> bool:
    return _names(SCHEMA, text[:_HEAD_BYTES])


def _names(schema: str, head: bytes) -> bool:
    """Return whether a schema's name is there, of any version: its reader tells which it takes."""
    return f'"{schema.rpartition("/")[0]}/'.encode() in head


def _receipts(text: bytes) -> tuple[KeptReceipt, ...]:
    lines = text.splitlines()
    if len(lines) > MAX_BATCH_RECEIPTS:
        raise EvidenceError(
            EvidenceCode.FILE,
            f"receipts: expected at most {MAX_BATCH_RECEIPTS} lines, found {len(lines)}",
            hint=f"split -l {MAX_BATCH_RECEIPTS} FILE makes files that are not too long.",
        )
    return tuple(
        parse_receipt_line(line, where=f"receipts, line {number}")
        for number, line in enumerate(lines, start=1)
    )


def _as_utf8(data: bytes, name: str) -> bytes:
    """Return text in UTF-8 without a mark, whatever mark it begins with; bytes without one as they are."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(codec).encode()
            except UnicodeError as exc:
                raise EvidenceError(
                    EvidenceCode.ENCODING, f"{name}: expected text in {codec}, as its first bytes say ({exc})"
                ) from exc
    return data


def _document(data: bytes, name: str) -> bytes:
    try:
        return decode_document(data, name=name)
    except UsageError as exc:
        # Something is there, and it is refused: that is a verdict on evidence, not a wrong command line.
        raise EvidenceError(EvidenceCode.ENCODING, exc.message) from exc
