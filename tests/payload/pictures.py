"""Pictures that the decoder's tests make."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from enclave_payload.media import MediaType
from enclave_payload.picture import PictureError, decode_picture
from enclave_payload.verdict import Problem
from tests.payload.cards import stretched

T = Image.Transpose


def upright() -> Image.Image:
    """No symmetry: every turn and every mirror image of it differs."""
    picture = Image.new("RGB", (96, 64), "white")
    picture.paste("red", (0, 0, 48, 32))
    picture.paste("blue", (48, 32, 96, 64))
    return picture


def encoded(picture: Image.Image, media_type: MediaType, **options: object) -> bytes:
    file = io.BytesIO()
    if media_type is MediaType.WEBP:
        options.setdefault("lossless", True)
    picture.save(file, media_type.name, **options)
    return file.getvalue()


def decoded(data: bytes, media_type: MediaType) -> Image.Image:
    picture = decode_picture(data, media_type, stretched(96, 64)).image
    assert (picture.mode, picture.size) == ("RGB", (96, 64))
    return picture


def problem_of(data: bytes, media_type: MediaType) -> Problem:
    with pytest.raises(PictureError) as caught:
        decoded(data, media_type)
    return caught.value.problem


def assert_close(found: Image.Image, expected: Image.Image, tolerance: float = 3) -> None:
    difference = np.abs(np.asarray(found, np.int16) - np.asarray(expected, np.int16))
    assert difference.mean() < tolerance


def chunk(kind: bytes, body: bytes) -> bytes:
    """PNG (third edition), section 5.3."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(size: tuple[int, int], depth: int, color: int, *chunks: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def incomplete_code(*words: str) -> bytes:
    """Zlib data of one block whose code has four words: 00 is a zero byte, 01 ends, the others mean nothing.

    RFC 1951, section 3.2.7. Zlib refuses such a code, whatever words come.
    """

    def number(value: int, count: int) -> str:
        return f"{value:0{count}b}"[::-1]

    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2)
    lengths = {18: 1, 0: 2, 2: 2}  # of the words for lengths: "0", "10", "11"
    head = "1" + number(2, 2) + number(0, 5) + number(0, 5) + number(len(order) - 4, 4)
    head += "".join(number(lengths.get(symbol, 0), 3) for symbol in order)
    zeros = "0" + number(138 - 11, 7) + "0" + number(255 - 138 - 11, 7)
    bits = head + "11" + zeros + "11" + "10" + "".join(words)
    body = int(bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")
    return b"\x78\x01" + body + struct.pack(">I", zlib.adler32(bytes(words.count("00"))))
