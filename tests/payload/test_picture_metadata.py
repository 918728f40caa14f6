"""Metadata that is damaged, or that there is too much of, does not cost the picture."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from enclave_payload.media import MediaType
from enclave_payload.picture import decode_picture
from enclave_payload.png_metadata import without_metadata
from tests.payload.cards import stretched
from tests.payload.pictures import T, assert_close, chunk, decoded, encoded, upright

# As picture.py does for the process; pytest sets its own filters for each test.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

MIB = 1024 * 1024


def ifd(*entries: bytes, count: int | None = None) -> bytes:
    """A little-endian TIFF head with one directory (TIFF 6.0, section 2)."""
    return b"II*\0" + struct.pack("<IH", 8, len(entries) if count is None else count) + b"".join(entries)


def orientation(kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", 0x0112, kind, count, value)


# None of these says how the picture is turned.
DAMAGED = {
    "empty": b"",
    "garbage": b"\0\0\x11\0\0\x01\x04\0",
    "text": b"garbage!garbage!",
    "repr": b"b'Exif\\x00\\x00'",
    "ones": b"\xff" * 999,
    "directory outside": b"II*\0" + struct.pack("<I", 0x7FFFFFFF),
    "directory cut short": ifd(orientation(3, 1, 6)[:6], count=40),
    "BigTIFF": b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + bytes(32),
    "orientation as text": ifd(orientation(2, 2, 0x31)) + bytes(4),
    "orientation of nobody": ifd(orientation(3, 1, 99)) + bytes(4),
    "orientation over 0": ifd(orientation(5, 1, 26)) + bytes(4) + struct.pack("<II", 6, 0),
    "orientation outside": ifd(orientation(5, 1, 0x7FFFFFFF)) + bytes(4),
}


def jpeg_with(exif: bytes) -> bytes:
    plain, body = encoded(upright(), MediaType.JPEG, quality=95), b"Exif\0\0" + exif
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]


def png_with(*chunks: bytes) -> bytes:
    """The chunks stand behind the head, before the pixels."""
    plain = encoded(upright(), MediaType.PNG)
    return plain[:33] + b"".join(chunks) + plain[33:]


def webp_with(exif: bytes) -> bytes:
    still = encoded(upright(), MediaType.WEBP)[12:]
    head = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + b"\x5f\0\0" + b"\x3f\0\0"
    body = b"WEBP" + head + still + b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def hex_profile(exif: bytes) -> bytes:
    """As ImageMagick writes EXIF into a PNG's text."""
    return b"Raw profile type exif\0\0" + zlib.compress(
        b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())
    )


WITH_EXIF: dict[str, tuple[MediaType, Callable[[bytes], bytes]]] = {
    "JPEG": (MediaType.JPEG, jpeg_with),
    "PNG": (MediaType.PNG, lambda exif: png_with(chunk(b"eXIf", exif))),
    "PNG with a JPEG's prefix": (MediaType.PNG, lambda exif: png_with(chunk(b"eXIf", b"Exif\0\0" + exif))),
    "PNG with a hexadecimal text": (MediaType.PNG, lambda exif: png_with(chunk(b"zTXt", hex_profile(exif)))),
    "WEBP": (MediaType.WEBP, webp_with),
    "WEBP with a JPEG's prefix": (MediaType.WEBP, lambda exif: webp_with(b"Exif\0\0" + exif)),
}
EVERY_CARRIER = pytest.mark.parametrize("carrier", WITH_EXIF)


@EVERY_CARRIER
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_exif_does_not_cost_the_picture(carrier: str, damage: str) -> None:
    media_type, build = WITH_EXIF[carrier]
    assert_close(decoded(build(DAMAGED[damage]), media_type), upright())


@EVERY_CARRIER
def test_sound_exif_turns_the_picture(carrier: str) -> None:
    media_type, build = WITH_EXIF[carrier]
    exif = ifd(orientation(3, 1, 3)) + bytes(4)
    assert_close(decoded(build(exif), media_type), upright().transpose(T.ROTATE_180))


@EVERY_CARRIER
@given(exif=st.binary(max_size=60))
def test_no_exif_costs_the_picture(carrier: str, exif: bytes) -> None:
    media_type, build = WITH_EXIF[carrier]
    decoded(build(b"II*\0" + exif), media_type)


def test_a_hexadecimal_text_that_is_no_hexadecimal() -> None:
    text = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n      10\nzzzz\n")
    assert_close(decoded(png_with(chunk(b"zTXt", text)), MediaType.PNG), upright())


@pytest.mark.parametrize("tag", [34665, 34853, 40965], ids=["EXIF", "GPS", "interoperability"])
@pytest.mark.parametrize("pointer", [0, 300, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", [4, 9], ids=["unsigned", "signed"])
def test_a_damaged_directory_of_metadata_does_not_cost_a_tiff(tag: int, pointer: int, kind: int) -> None:
    pixels = np.asarray(upright()).tobytes()
    tags = {256: 96, 257: 64, 258: 8, 259: 1, 262: 2, 277: 3, 278: 64, 279: len(pixels)}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = {one: struct.pack("<HHII", one, 4, 1, value) for one, value in {**tags, 273: start}.items()}
    entries[tag] = struct.pack("<HHII", tag, kind, 1, pointer)
    data = ifd(*(entries[one] for one in sorted(entries))) + bytes(4) + pixels
    assert_close(decoded(data, MediaType.TIFF), upright())


def text_chunk(kind: bytes, keyword: bytes, content: bytes) -> bytes:
    if kind == b"tEXt":
        return chunk(kind, keyword + b"\0" + content)
    head = b"\0\1\0\0\0" if kind == b"iTXt" else b"\0\0"
    return chunk(kind, keyword + head + zlib.compress(content, 9))


@pytest.mark.parametrize("content", [bytes(2 * MIB), bytes(64 * MIB)], ids=["2 MiB", "64 MiB"])
@pytest.mark.parametrize("keyword", [b"Comment", b"XML:com.adobe.xmp", b"Raw profile type exif"])
@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_metadata_that_inflates_to_more_than_a_mebibyte_does_not_cost_a_png(
    kind: bytes, keyword: bytes, content: bytes
) -> None:
    data = png_with(text_chunk(kind, keyword, content))
    assert len(data) < 200_000
    assert_close(decoded(data, MediaType.PNG), upright())


@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"eXIf", b"prVt"])
def test_metadata_of_more_than_a_mebibyte_does_not_cost_a_png(kind: bytes) -> None:
    noise = np.random.default_rng(1).integers(1, 256, 3 * MIB // 2, np.uint8).tobytes()
    bodies = {b"tEXt": b"note\0" + noise, b"iCCP": b"ICC profile\0\0" + zlib.compress(noise)}
    assert_close(decoded(png_with(chunk(kind, bodies.get(kind, noise))), MediaType.PNG), upright())


def test_many_texts_that_inflate_are_not_inflated() -> None:
    bomb = text_chunk(b"zTXt", b"XML:com.adobe.xmp", bytes(MIB))
    data = png_with(*[bomb] * 200)
    assert len(without_metadata(data)) < len(encoded(upright(), MediaType.PNG)) + 3 * len(bomb)
    assert_close(decoded(data, MediaType.PNG), upright())


def test_a_profile_of_900_kilobytes_in_a_jpeg_and_a_webp() -> None:
    for media_type in (MediaType.JPEG, MediaType.WEBP, MediaType.TIFF):
        data = encoded(upright(), media_type, icc_profile=bytes(900_000))
        assert_close(decoded(data, media_type), upright())


@pytest.mark.parametrize("place", ["before the pixels", "behind the pixels"])
def test_a_wrong_checksum_of_metadata_does_not_matter(place: str) -> None:
    text = bytearray(chunk(b"tEXt", b"k\0v"))
    text[-1] ^= 0xFF
    plain = encoded(upright(), MediaType.PNG)
    at = 33 if place == "before the pixels" else len(plain) - 12
    assert_close(decoded(plain[:at] + bytes(text) + plain[at:], MediaType.PNG), upright())


def test_transparency_is_not_taken_for_metadata() -> None:
    picture = Image.new("RGB", (96, 64), "black")
    picture.paste("red", (0, 0, 48, 32))
    data = encoded(picture, MediaType.PNG, transparency=(0, 0, 0))
    assert without_metadata(data) == data
    assert decode_picture(data, MediaType.PNG, stretched(96, 64)).image.getpixel((95, 63)) == (255,) * 3


def test_a_png_without_metadata_is_not_copied() -> None:
    plain = encoded(upright(), MediaType.PNG)
    assert without_metadata(plain) is plain
    assert without_metadata(png_with(chunk(b"tEXt", b"k\0v"), chunk(b"tIME", bytes(7)))) == plain


@given(st.binary(max_size=200), st.data())
def test_any_bytes_behind_the_head_lose_no_more_than_whole_chunks(tail: bytes, data: st.DataObject) -> None:
    plain = encoded(Image.new("L", (2, 2)), MediaType.PNG)
    broken = plain[: data.draw(st.integers(33, len(plain)))] + tail
    kept = without_metadata(broken)
    assert kept[:33] == broken[:33]
    assert without_metadata(kept) == kept
