"""The spellings in which people keep documents: the bytes themselves, hex, base64."""

from __future__ import annotations

import base64
import binascii
import re

from enclavectl.errors import UsageError

_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2})+")
_TEXT = frozenset((*range(0x20, 0x7F), *b"\t\r\n"))


def decode_document(data: bytes, *, name: str) -> bytes:
    """Return a document's bytes.

    What is no text is a document as it is; its reader says what is wrong with it. Text is hex or base64, in
    lines of any length, and in one spelling only: nothing is dropped.

    Raises:
        UsageError: the file ``name`` is empty, or text that is neither.
    """
    if not data.strip():
        raise UsageError(f"{name}: expected an attestation document, found nothing")
    if not _TEXT.issuperset(data):
        return data
    joined = b"".join(data.split())
    if _HEX.fullmatch(joined):
        return bytes.fromhex(joined.decode("ascii"))
    try:
        decoded = base64.b64decode(joined, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if base64.b64encode(decoded) != joined:
        raise UsageError(
            f"{name}: expected an attestation document in binary, hex or base64, found other text",
            code="encoding",
        )
    return decoded
