"""Pictures made here, with Pillow or by hand; decoding one ends in a picture or a PictureError only."""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from enclave_payload.contents import Problem
from enclave_payload.media import MediaType
from enclave_payload.picture import MAX_PIXELS, PictureError, decode_picture

# As picture.py does for the process; pytest sets its own filters for each test.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

FORMATS = pytest.mark.parametrize("media_type", list(MediaType), ids=lambda media_type: media_type.name)
T = Image.Transpose
# What a camera held that way stores: the inverse of what puts the picture upright (EXIF 2.32, tag 0x0112).
STORED_AS = {
    1: None,
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}


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
    picture = decode_picture(data, media_type, width=96, height=64)
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


def cuts(data: bytes, count: int = 40) -> Iterable[bytes]:
    return (data[: len(data) * part // count] for part in range(1, count))


@FORMATS
def test_every_format_decodes(media_type: MediaType) -> None:
    assert_close(decoded(encoded(upright(), media_type), media_type), upright())


@FORMATS
def test_any_size_becomes_the_size_of_the_model(media_type: MediaType) -> None:
    for size in ((1, 1), (1, 300), (301, 2), (96, 64), (640, 480)):
        picture = decoded(encoded(upright().resize(size), media_type), media_type)
        assert picture.getbbox() is not None


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_of_every_format_ends_upright(name: str, orientation: int) -> None:
    transpose = STORED_AS[orientation]
    stored = upright() if transpose is None else upright().transpose(transpose)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, MediaType[name], exif=exif)
    assert_close(decoded(data, MediaType[name]), upright())


def test_exif_behind_the_pixels_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = encoded(upright().transpose(T.ROTATE_180), MediaType.PNG)
    end = plain.index(b"IEND") - 4
    data = plain[:end] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + plain[end:]
    assert_close(decoded(data, MediaType.PNG), upright())


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_close(decoded(encoded(upright(), MediaType.JPEG, exif=exif), MediaType.JPEG), upright())


@pytest.mark.parametrize(
    ("mode", "media_type"),
    [
        ("1", MediaType.PNG),
        ("1", MediaType.BMP),
        ("1", MediaType.TIFF),
        ("L", MediaType.PNG),
        ("L", MediaType.JPEG),
        ("P", MediaType.PNG),
        ("P", MediaType.BMP),
        ("P", MediaType.TIFF),
        ("CMYK", MediaType.JPEG),
        ("CMYK", MediaType.TIFF),
        ("YCbCr", MediaType.TIFF),
        ("RGBA", MediaType.PNG),
        ("RGBA", MediaType.WEBP),
        ("RGBA", MediaType.TIFF),
        ("LA", MediaType.PNG),
        ("LA", MediaType.TIFF),
    ],
)
def test_pixels_that_rgb_can_stand_for_are_converted(mode: str, media_type: MediaType) -> None:
    source = upright().convert(mode)
    assert_close(decoded(encoded(source, media_type), media_type), source.convert("RGB"), 6)


def test_transparent_means_white() -> None:
    picture = upright().convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 0))
    white = Image.new("RGB", (96, 64), "white")
    assert_close(decoded(encoded(picture, MediaType.PNG), MediaType.PNG), white, 0.1)
    half = Image.new("LA", (96, 64), (0, 128))
    gray = Image.new("RGB", (96, 64), (127, 127, 127))
    assert_close(decoded(encoded(half, MediaType.PNG), MediaType.PNG), gray, 1)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_transparent_color_means_white(mode: str) -> None:
    picture = Image.new("RGB", (96, 64), "black").convert(mode)
    key = {"P": picture.getpixel((0, 0)), "L": 0, "RGB": (0, 0, 0), "1": 0}[mode]
    data = encoded(picture, MediaType.PNG, transparency=key)
    assert_close(decoded(data, MediaType.PNG), Image.new("RGB", (96, 64), "white"), 0.1)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pixels_without_a_known_range_are_refused(mode: str) -> None:
    picture = Image.fromarray(np.full((64, 96), 300, {"I;16": "<u2", "I": "<i4", "F": "<f4"}[mode]))
    assert picture.mode == mode
    assert problem_of(encoded(picture, MediaType.TIFF), MediaType.TIFF) is Problem.UNSUPPORTED_PIXELS


@pytest.mark.parametrize("transparency", [b"", chunk(b"tRNS", b"\0\1")], ids=["plain", "transparent color"])
def test_16_bit_gray_is_refused_and_never_clipped(transparency: bytes) -> None:
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + b"\x40\0" * 2) * 2))
    assert problem_of(png((2, 2), 16, 0, transparency, pixels), MediaType.PNG) is Problem.UNSUPPORTED_PIXELS


def test_16_bit_color_keeps_its_upper_8_bits() -> None:
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + b"\x40\xff\x80\xff\xc0\xff" * 2) * 2))
    expected = Image.new("RGB", (96, 64), (0x40, 0x80, 0xC0))
    assert_close(decoded(png((2, 2), 16, 2, pixels), MediaType.PNG), expected, 1)


@FORMATS
def test_an_empty_picture_is_named_so(media_type: MediaType) -> None:
    assert problem_of(b"", media_type) is Problem.EMPTY


@FORMATS
def test_a_picture_that_is_cut_short_is_refused(media_type: MediaType) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8))
    for data in cuts(encoded(noise, media_type)):
        assert problem_of(data, media_type) is Problem.UNREADABLE


@FORMATS
@pytest.mark.parametrize("garbage", [b"\0", b"GIF89a", b"\xff" * 999, b"<svg/>", bytes(9999)])
def test_garbage_is_refused(media_type: MediaType, garbage: bytes) -> None:
    assert problem_of(garbage, media_type) is Problem.UNREADABLE


@FORMATS
def test_only_the_decoder_of_the_media_type_is_tried(media_type: MediaType) -> None:
    for other in MediaType:
        if other is not media_type:
            assert problem_of(encoded(upright(), other), media_type) is Problem.UNREADABLE
    gif = io.BytesIO()
    upright().save(gif, "GIF")
    assert problem_of(gif.getvalue(), media_type) is Problem.UNREADABLE


@FORMATS
@given(st.data())
def test_a_changed_picture_is_a_picture_or_a_picture_error(
    media_type: MediaType, data: st.DataObject
) -> None:
    source = bytearray(encoded(upright(), media_type))
    for _ in range(data.draw(st.integers(1, 4))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PictureError):
        decoded(bytes(source), media_type)


@pytest.mark.parametrize(
    "size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (MAX_PIXELS + 1, 1), (7072, 7072)]
)
def test_a_png_bomb_is_refused_from_its_head(size: tuple[int, int]) -> None:
    bomb = png(size, 8, 2, chunk(b"IDAT", zlib.compress(bytes(1000))))
    assert len(bomb) < 100
    assert problem_of(bomb, MediaType.PNG) is Problem.TOO_MANY_PIXELS


def test_a_picture_of_exactly_the_limit_is_taken() -> None:
    picture = Image.new("1", (10_000, MAX_PIXELS // 10_000), 1)
    assert_close(
        decoded(encoded(picture, MediaType.PNG), MediaType.PNG), Image.new("RGB", (96, 64), "white"), 0.1
    )


def bmp_head(width: int, height: int) -> bytes:
    return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff_head(width: int, height: int) -> bytes:
    """One strip of 8-bit gray, as TIFF 6.0 section 4 asks for."""
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 1}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (8, 8)), MediaType.JPEG))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_of(width: int, height: int) -> bytes:
    still = encoded(Image.new("RGB", (8, 8)), MediaType.WEBP)[12:]
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    frame = bytes(6) + (7).to_bytes(3, "little") * 2 + bytes(4) + still
    body += b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (bmp_head(60_000, 60_000), MediaType.BMP),
        (bmp_head(60_000, -60_000), MediaType.BMP),
        (tiff_head(60_000, 60_000), MediaType.TIFF),
        (jpeg_of(60_000, 60_000), MediaType.JPEG),
        (webp_of(16_383, 16_383), MediaType.WEBP),
    ],
    ids=["BMP", "BMP upside down", "TIFF", "JPEG", "WEBP"],
)
def test_every_other_bomb_is_refused_from_its_head(data: bytes, media_type: MediaType) -> None:
    assert len(data) < 1000
    assert problem_of(data, media_type) is Problem.TOO_MANY_PIXELS


@pytest.mark.parametrize("media_type", [MediaType.PNG, MediaType.WEBP, MediaType.TIFF])
def test_more_than_one_frame_is_refused(media_type: MediaType) -> None:
    others = [upright().transpose(T.ROTATE_180), Image.new("RGB", (96, 64))]
    data = encoded(upright(), media_type, save_all=True, append_images=others)
    assert problem_of(data, media_type) is Problem.MORE_THAN_ONE_FRAME


def test_a_tiff_whose_directories_run_in_a_circle_ends() -> None:
    data = bytearray(encoded(upright(), MediaType.TIFF))
    first = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    assert_close(decoded(bytes(data), MediaType.TIFF), upright())


def test_metadata_does_not_matter_however_much_there_is() -> None:
    text = PngImagePlugin.PngInfo()
    for number in range(50):
        text.add_text(f"key {number}", "x" * 10_000)
    with_text = encoded(upright(), MediaType.PNG, pnginfo=text, icc_profile=bytes(100_000))
    assert_close(decoded(with_text, MediaType.PNG), upright())
    with_comment = encoded(upright(), MediaType.JPEG, comment=b"c" * 60_000, icc_profile=bytes(900_000))
    assert_close(decoded(with_comment, MediaType.JPEG), upright())


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_metadata_is_not_blown_up(kind: bytes) -> None:
    blown_up = zlib.compress(bytes(64 * 1024 * 1024), 9)
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[kind]
    plain = encoded(upright(), MediaType.PNG)
    data = plain[:33] + chunk(kind, head + blown_up) + plain[33:]
    with contextlib.suppress(PictureError):
        assert_close(decoded(data, MediaType.PNG), upright())


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 999]
)
def test_damaged_exif_ends_in_a_picture_or_a_problem(exif: bytes) -> None:
    data = encoded(upright(), MediaType.JPEG, exif=exif)
    with contextlib.suppress(PictureError):
        assert_close(decoded(data, MediaType.JPEG), upright())
