"""PNG files without their metadata: what is dropped costs neither memory nor time, and cannot be damaged.

Pillow inflates every text and color profile, and refuses a picture whose metadata is longer than 1 MiB.
"""

from __future__ import annotations

import struct
import zlib

# A picture's EXIF and XMP have some kilobytes; for texts of more than this Pillow refuses the whole picture.
_MAX_TEXT_BYTES = 1024 * 1024
# The two that Pillow looks into for the orientation. More of them would each be inflated.
_MAX_TEXTS = 2
_ORIENTED = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
# What the pixels need beside the critical chunks: transparency, and what tells that there are more frames.
_NEEDED = {b"tRNS", b"acTL", b"fcTL", b"fdAT"}


def without_metadata(data: bytes) -> bytes:
    """Drop the ancillary chunks of a PNG that affect neither its pixels nor its orientation.

    From the first malformed chunk on (PNG, third edition, section 5.3), the rest stays: the decoder refuses
    it.
    """
    view = memoryview(data)
    parts: list[memoryview] = []
    start, position, texts = 0, 8, 0
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind == b"IEND" or end > len(data):
            break
        body = view[position + 8 : end - 4]
        is_text = texts < _MAX_TEXTS and _is_orientation_text(kind, body)
        texts += is_text
        # The fifth bit of a chunk's first letter says that it is ancillary: section 5.4.
        if kind[0] & 0x20 and not (is_text or kind in _NEEDED or _is_exif(kind, body)):
            parts.append(view[start:position])
            start = end
        position = end
    return b"".join([*parts, view[start:]]) if parts else data


def _is_exif(kind: bytes, body: memoryview) -> bool:
    return kind == b"eXIf" and len(body) <= _MAX_TEXT_BYTES


def _is_orientation_text(kind: bytes, body: memoryview) -> bool:
    """Return whether a text may have the orientation and is not too long, before and after inflation."""
    if kind not in {b"tEXt", b"zTXt", b"iTXt"} or len(body) > _MAX_TEXT_BYTES:
        return False
    text = bytes(body)
    if not text.startswith(_ORIENTED):
        return False
    rest = text.partition(b"\0")[2]
    if kind == b"zTXt":
        return _inflates(rest[1:])
    if kind == b"iTXt" and rest[:1] == b"\1":
        return _inflates(rest[2:].split(b"\0", 2)[-1])
    return True


def _inflates(data: bytes) -> bool:
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(data, _MAX_TEXT_BYTES)
    except zlib.error:
        return False
    return not inflater.unconsumed_tail
