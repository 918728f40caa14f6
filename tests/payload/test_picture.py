"""Pictures made here, with Pillow or by hand; decoding one ends in a picture or a PictureError only."""

import contextlib
import io
import zlib
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from enclave_payload.media import MediaType
from enclave_payload.picture import PictureError
from enclave_payload.verdict import Problem
from tests.payload.pictures import T, assert_close, chunk, decoded, encoded, png, problem_of, upright

# As picture.py does for the process; pytest sets its own filters for each test.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

FORMATS = pytest.mark.parametrize("media_type", list(MediaType), ids=lambda media_type: media_type.name)
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
    picture.paste((0, 0, 0, 0), (0, 0, 48, 32))
    expected = upright()
    expected.paste("white", (0, 0, 48, 32))
    assert_close(decoded(encoded(picture, MediaType.PNG), MediaType.PNG), expected, 0.1)
    half = Image.new("LA", (96, 64), (0, 128))
    gray = Image.new("RGB", (96, 64), (127, 127, 127))
    assert_close(decoded(encoded(half, MediaType.PNG), MediaType.PNG), gray, 1)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_transparent_color_means_white(mode: str) -> None:
    picture = Image.new("RGB", (96, 64), "black")
    picture.paste("white", (0, 0, 48, 32))
    picture = picture.convert(mode)
    key = {"P": picture.getpixel((95, 63)), "L": 0, "RGB": (0, 0, 0), "1": 0}[mode]
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
