"""Small pictures that cost out of all proportion: one family for each thing that multiplies a decoder's work.

``FAMILIES`` has each by name: its format, and what makes a member of it. ``count`` is what multiplies: scans,
markers, chunks, strips, tiles, pixels of a side.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from PIL import Image

from enclave_payload.media import MediaType
from tests.payload.pictures import chunk, png


class Family(NamedTuple):
    """``make(count)`` is a member; ``few`` is an honest count, ``many`` one that hurts."""

    media_type: MediaType
    make: Callable[[int], bytes]
    few: int
    many: int


def _saved(picture: Image.Image, media_type: MediaType, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, media_type.name, **options)
    return file.getvalue()


def jpeg_scans(count: int) -> bytes:
    """A progressive picture whose last scan comes ``count`` times more: 52 ms of work for 76 bytes."""
    data = _saved(Image.new("L", (3000, 3000), 99), MediaType.JPEG, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def jpeg_markers(count: int) -> bytes:
    """Empty comments before the picture, four bytes each."""
    data = _saved(Image.new("L", (64, 64), 99), MediaType.JPEG)
    return data[:2] + b"\xff\xfe\0\2" * count + data[2:]


def jpeg_profiles(count: int) -> bytes:
    """Pieces of a color profile that is never whole."""
    data = _saved(Image.new("L", (64, 64), 99), MediaType.JPEG)
    piece = b"\xff\xe2" + struct.pack(">H", 2 + 14) + b"ICC_PROFILE\0" + b"\1\xff"
    return data[:2] + piece * count + data[2:]


def jpeg_restarts(side: int) -> bytes:
    """A large picture in one color, with a restart marker after every block."""
    return _saved(Image.new("L", (side, side), 99), MediaType.JPEG, restart_marker_blocks=1)


def png_chunks(count: int) -> bytes:
    """Empty pieces of pixel data before the pixels, twelve bytes each."""
    pixels = zlib.compress(bytes(65 * 64))
    return png((64, 64), 8, 0, *[chunk(b"IDAT", b"")] * count, chunk(b"IDAT", pixels))


def png_texts(count: int) -> bytes:
    """Texts before the pixels."""
    pixels = zlib.compress(bytes(65 * 64))
    return png((64, 64), 8, 0, *[chunk(b"tEXt", b"a\0")] * count, chunk(b"IDAT", pixels))


def png_blocks(count: int) -> bytes:
    """Empty blocks before the pixels, four in five bytes: ISA-L fills its tables for each, zlib does not."""
    deflater = zlib.compressobj(wbits=-15)
    rows = bytes(65 * 64)
    stream = b"\x02\x08\x20\x80\x00" * count + deflater.compress(rows) + deflater.flush()
    body = b"\x78\x01" + stream + struct.pack(">I", zlib.adler32(rows))
    return png((64, 64), 8, 0, chunk(b"IDAT", body))


def png_tall(height: int) -> bytes:
    """One pixel wide: resizing takes memory for each row."""
    return png((1, height), 8, 0, chunk(b"IDAT", zlib.compress(bytes(2 * height))))


def png_wide(width: int) -> bytes:
    """Two pixels high."""
    return png((width, 2), 8, 0, chunk(b"IDAT", zlib.compress(bytes(2 * width + 2))))


def png_interlaced(side: int) -> bytes:
    """Seven passes over pixels that compress to nothing."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 1))
    passes = (
        (8, 8, 0, 0),
        (8, 8, 4, 0),
        (4, 8, 0, 4),
        (4, 4, 2, 0),
        (2, 4, 0, 2),
        (2, 2, 1, 0),
        (1, 2, 0, 1),
    )
    size = 0
    for step_x, step_y, left, top in passes:
        columns, rows = -(-(side - left) // step_x), -(-(side - top) // step_y)
        size += rows * (1 + 4 * columns)
    body = head + chunk(b"IDAT", zlib.compress(bytes(size))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_transparent_palette(side: int) -> bytes:
    """A palette with alpha: the picture grows from one byte a pixel to four, twice."""
    picture = Image.new("P", (side, side), 1)
    return _saved(picture, MediaType.PNG, transparency=bytes(range(256)))


def webp_canvas(side: int) -> bytes:
    """One color, with alpha: four pictures of four bytes a pixel while it is decoded."""
    return _saved(Image.new("RGBA", (side, side), (9, 9, 9, 9)), MediaType.WEBP, lossless=True)


def webp_chunks(count: int) -> bytes:
    """Unknown chunks behind the picture, eight bytes each."""
    data = _saved(Image.new("RGBA", (64, 64)), MediaType.WEBP, lossless=True, exif=b"Exif\0\0")
    body = data[8:] + (b"junk" + bytes(4)) * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_line_ends(height: int) -> bytes:
    """Runs of one pixel, a line end after each: Pillow fills lines in Python."""
    width = 800
    lines = b"\1\7\0\0" * height + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(lines), 0, 0, 256, 0)
    start = 14 + len(head) + 1024
    return struct.pack("<2sIHHI", b"BM", start + len(lines), 0, 0, start) + head + bytes(1024) + lines


def bmp_runs(side: int) -> bytes:
    """Runs of two pixels of four bits each."""
    lines = (b"\2\x12" * (side // 2) + b"\0\0") * side + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 4, 2, len(lines), 0, 0, 16, 0)
    start = 14 + len(head) + 64
    return struct.pack("<2sIHHI", b"BM", start + len(lines), 0, 0, start) + head + bytes(64) + lines


def _tiff(entries: dict[int, tuple[int, Sequence[int]]], body: bytes = b"") -> bytes:
    """TIFF 6.0: the directory comes last; kind 3 has two bytes, kind 4 four."""
    data = bytearray(b"II*\0\0\0\0\0" + body)
    table = b""
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            place = len(data)
            data += packed
            packed = struct.pack("<I", place)
        table += struct.pack("<HHI4s", tag, kind, len(values), packed)
    struct.pack_into("<I", data, 4, len(data))
    return bytes(data + struct.pack("<H", len(entries)) + table + bytes(4))


def _tiff_of(width: int, height: int, compression: int) -> dict[int, tuple[int, Sequence[int]]]:
    numbers = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: 1}
    return {tag: (4, [value]) for tag, value in numbers.items()}


def tiff_strips(height: int) -> bytes:
    """A strip for each row, all at one place."""
    pixels = zlib.compress(bytes(700))
    strips = {278: (4, [1]), 273: (4, [8] * height), 279: (4, [len(pixels)] * height)}
    return _tiff({**_tiff_of(700, height, 8), **strips}, pixels)


def tiff_raw_strips(height: int) -> bytes:
    """The same, not compressed: Pillow itself goes from strip to strip."""
    strips = {278: (4, [1]), 273: (4, [8] * height), 279: (4, [700] * height)}
    return _tiff({**_tiff_of(700, height, 1), **strips}, bytes(700))


def tiff_tiles(side: int) -> bytes:
    """Tiles of 16 x 16, all at one place."""
    pixels = zlib.compress(bytes(256))
    count = (side // 16) ** 2
    tiles = {322: (4, [16]), 323: (4, [16]), 324: (4, [8] * count), 325: (4, [len(pixels)] * count)}
    return _tiff({**_tiff_of(side, side, 8), **tiles}, pixels)


def tiff_raw_tiles(side: int) -> bytes:
    """The same, not compressed."""
    count = (side // 16) ** 2
    tiles = {322: (4, [16]), 323: (4, [16]), 324: (4, [8] * count), 325: (4, [256] * count)}
    return _tiff({**_tiff_of(side, side, 1), **tiles}, bytes(256))


def tiff_tags(count: int) -> bytes:
    """Private tags; a directory has at most 65,535 entries."""
    strip = {273: (4, [8]), 278: (4, [16]), 279: (4, [256])}
    private = {32768 + number: (4, [number]) for number in range(count) if 32768 + number < 65000}
    return _tiff({**_tiff_of(16, 16, 1), **strip, **private}, bytes(256))


J, P, W, B, T = MediaType.JPEG, MediaType.PNG, MediaType.WEBP, MediaType.BMP, MediaType.TIFF
FAMILIES = {
    "JPEG scans": Family(J, jpeg_scans, 0, 500),
    "JPEG markers": Family(J, jpeg_markers, 1, 4_000_000),
    "JPEG profiles": Family(J, jpeg_profiles, 1, 900_000),
    "JPEG restarts": Family(J, jpeg_restarts, 64, 7_000),
    "PNG chunks": Family(P, png_chunks, 1, 1_300_000),
    "PNG texts": Family(P, png_texts, 1, 1_200_000),
    "PNG blocks": Family(P, png_blocks, 1, 207_000),
    "PNG tall": Family(P, png_tall, 65_535, 50_000_000),
    "PNG wide": Family(P, png_wide, 65_535, 25_000_000),
    "PNG interlaced": Family(P, png_interlaced, 64, 7_000),
    "PNG palette": Family(P, png_transparent_palette, 64, 7_000),
    "WebP canvas": Family(W, webp_canvas, 64, 7_000),
    "WebP chunks": Family(W, webp_chunks, 1, 2_000_000),
    "BMP line ends": Family(B, bmp_line_ends, 64, 60_000),
    "BMP runs": Family(B, bmp_runs, 64, 4_000),
    "TIFF strips": Family(T, tiff_strips, 64, 65_000),
    "TIFF raw strips": Family(T, tiff_raw_strips, 64, 65_000),
    "TIFF tiles": Family(T, tiff_tiles, 64, 7_056),
    "TIFF raw tiles": Family(T, tiff_raw_tiles, 64, 7_056),
    "TIFF tags": Family(T, tiff_tags, 1, 32_000),
}
