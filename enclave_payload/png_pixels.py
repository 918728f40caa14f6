"""PNG files with their pixels inflated by ISA-L, which takes a third of zlib's time.

Pillow inflates with the zlib of the system, which is two fifths of what a small picture costs. It gets the
same file with the pixels stored instead of compressed (RFC 1951, section 3.2.4), and undoes their filters.
A file that is unusual or damaged in any way stays as it is, and Pillow judges it.

ISA-L takes one thing that zlib refuses: Huffman codes with words that stand for nothing, as no encoder makes
them. Such pixels are held to their size and checksum as all others are.
"""

from __future__ import annotations

import struct

from isal import isal_zlib

# ISA-L fills its tables for each block of a stream, which zlib does not: 0.4 s for a MiB of empty blocks. And
# a large file gains little: its pixels take longer elsewhere.
MAX_FILE_BYTES = 1024 * 1024
# Pillow takes up to twelve bytes for a pixel beside these. Within this the sum is below what it takes for the
# largest pictures.
MAX_PIXEL_BYTES = 32 * 1024 * 1024
# PNG (third edition), section 11.2.1: the header is the first chunk, and has 13 bytes.
_BEGIN = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"
_END_OF_HEADER = 33
# The bytes of a pixel by bit depth and color type. Not pixels of fewer bits: many of them fit into the limit.
_BYTES = {
    (8, 0): 1,
    (8, 2): 3,
    (8, 3): 1,
    (8, 4): 2,
    (8, 6): 4,
    (16, 0): 2,
    (16, 2): 6,
    (16, 4): 4,
    (16, 6): 8,
}
# What may come before the pixels. Pillow would take pixels of `fdAT` too, and the size of a second header.
_BEFORE_PIXELS = {b"PLTE", b"tRNS", b"eXIf", b"tEXt", b"zTXt", b"iTXt"}
# RFC 1950: deflate with a window of 32 KiB, as encoders use it for more than 16 KiB, and no dictionary.
_ZLIB_METHOD, _ZLIB_HEADER = b"\x78", b"\x78\x01"
_MAX_STORED = 0xFFFF


def with_stored_pixels(data: bytes) -> bytes:
    """Return the same picture with its pixels stored, or ``data`` itself if it has no usual, sound pixels.

    They are sound if they have the bytes that the header promises, no more, and the checksum behind them.
    """
    size = _size_of_pixels(data)
    if not 0 < size <= MAX_PIXEL_BYTES or len(data) > MAX_FILE_BYTES:
        return data
    start, end, compressed = _compressed_pixels(data)
    pixels = _inflated(compressed, size)
    if pixels is None:
        return data
    view = memoryview(data)
    return b"".join([view[:start], *_stored_chunk(pixels), view[end:]])


def _size_of_pixels(data: bytes) -> int:
    """Return the bytes of all rows, each with its filter; 0 if they are interlaced, or unusual otherwise."""
    if len(data) < _END_OF_HEADER or not data.startswith(_BEGIN):
        return 0
    width, height, depth, color, *methods = struct.unpack_from(">IIBB3B", data, len(_BEGIN))
    bytes_per_pixel = _BYTES.get((depth, color))
    if bytes_per_pixel is None or any(methods):
        return 0
    return int(height * (1 + width * bytes_per_pixel))


def _compressed_pixels(data: bytes) -> tuple[int, int, bytes]:
    """Return where the pixels' first chunks begin and end, and what is in them; nothing if none are found."""
    view = memoryview(data)
    bodies: list[memoryview] = []
    start = position = _END_OF_HEADER
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind == b"IDAT" and end <= len(data):
            bodies.append(view[position + 8 : end - 4])
        elif kind in _BEFORE_PIXELS and not bodies:
            start = end
        else:
            break
        position = end
    return start, position, b"".join(bodies)


def _inflated(compressed: bytes, size: int) -> bytes | None:
    """Return ``size`` bytes of pixels; None if there are more or less, or if they are damaged."""
    if not compressed.startswith(_ZLIB_METHOD):
        return None
    inflater = isal_zlib.decompressobj()
    try:
        pixels = inflater.decompress(compressed, size + 1)
    except isal_zlib.error:  # type: ignore[misc]  # its stub makes an instance of what is a class
        return None
    is_whole = inflater.eof and not inflater.unused_data and len(pixels) == size
    return pixels if is_whole else None


def _stored_chunk(pixels: bytes) -> list[bytes | memoryview]:
    """Return the parts of the chunk that has these pixels in stored blocks."""
    view = memoryview(pixels)
    parts: list[bytes | memoryview] = [b"IDAT", _ZLIB_HEADER]
    for start in range(0, len(pixels), _MAX_STORED):
        block = view[start : start + _MAX_STORED]
        is_last = start + _MAX_STORED >= len(pixels)
        parts += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    parts.append(struct.pack(">I", isal_zlib.adler32(pixels)))
    crc = 0
    for part in parts:
        crc = isal_zlib.crc32(part, crc)
    length = sum(map(len, parts)) - len(b"IDAT")
    return [struct.pack(">I", length), *parts, struct.pack(">I", crc)]
