"""The spellings in which people keep documents: the bytes themselves, hex, base64."""

from __future__ import annotations

import base64
import binascii
import re

from enclavectl.errors import UsageError

_HEX = re.compile(rb"(?:0[xX])?((?:[0-9A-Fa-f]{2})+)")
# An array of four, or the tag of COSE_Sign1: PEM's lines of hyphens are base64 of URLs as well.
_STARTS = (b"\x84", b"\xd2")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_TEXT = frozenset((*range(0x20, 0x7F), *b"\t\r\n"))


def decode_document(data: bytes, *, name: str) -> bytes:
    """Return a document's bytes.

    What is no text is a document as it is; its reader says what is wrong with it. Text is hex, perhaps after
    0x, or base64, in lines of any length. Base64 may be that of URLs (RFC 4648 section 5), which is often
    left without its padding. Nothing is dropped.

    Raises:
        UsageError: the file ``name`` is empty, or text that is neither.
    """
    if not data.strip():
        raise UsageError(f"{name}: expected an attestation document, found nothing")
    if not _TEXT.issuperset(data):
        return data
    joined = b"".join(data.split())
    if (found := _HEX.fullmatch(joined)) is not None:
        return bytes.fromhex(found[1].decode("ascii"))
    decoded = _base64(joined)
    if decoded is None:
        raise UsageError(
            f"{name}: expected an attestation document in binary, hex or base64, found other text",
            code="encoding",
        )
    return decoded


def _base64(joined: bytes) -> bytes | None:
    digits = padded = joined.translate(_URL_SAFE)
    if digits != joined:
        if b"+" in joined or b"/" in joined:
            return None
        if not digits.endswith(b"="):
            padded += b"=" * (-len(digits) % 4)
    try:
        decoded = base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        return None
    if digits != joined and decoded[:1] not in _STARTS:
        return None
    # One spelling of each document: with no bit to spare.
    return decoded if base64.b64encode(decoded) == padded else None
