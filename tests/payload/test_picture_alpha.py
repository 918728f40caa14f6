"""An alpha channel that nobody meant; pictures of which nothing, or almost nothing, is visible."""

import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from enclave_payload.media import MediaType
from enclave_payload.picture import decode_picture
from enclave_payload.verdict import Problem, Remark
from tests.payload.cards import stretched
from tests.payload.pictures import assert_close, decoded, encoded, problem_of, upright

Samples = NDArray[np.uint8] | NDArray[np.uint16]

WHITE = Image.new("RGB", (96, 64), "white")
# The sizes of BITMAPINFOHEADER, and of its versions 3, 4 and 5.
BMP_HEADERS = {"info": 40, "v3": 56, "v4": 108, "v5": 124}


def bmp32(alpha: NDArray[np.float64], header: str) -> bytes:
    """A picture of 32 bits a pixel; versions from 3 on say where the alpha is."""
    size = BMP_HEADERS[header]
    pixels = np.dstack([np.asarray(upright())[:, :, ::-1], alpha.astype(np.uint8)])[::-1].tobytes()
    compression = 0 if header == "info" else 3
    info = struct.pack("<IiiHHIIiiII", size, 96, 64, 1, 32, compression, len(pixels), 0, 0, 0, 0)
    if header != "info":
        info += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    start = 14 + size
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info.ljust(size, b"\0") + pixels


def tiff(samples: Samples, *, extra: int | None) -> bytes:
    """One strip of RGB and a further sample, with or without ExtraSamples (TIFF 6.0, section 18)."""
    height, width, count = samples.shape
    bits, order = samples.dtype.itemsize * 8, samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    tags = {256: width, 257: height, 259: 1, 262: 2, 277: count, 278: height, 279: len(order)}
    if extra is not None:
        tags[338] = extra
    end = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    entries[258] = struct.pack("<HHII", 258, 3, count, end)
    entries[273] = struct.pack("<HHII", 273, 4, 1, end + 2 * count)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    body = b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return head + body + struct.pack(f"<{count}H", *[bits] * count) + order


def rgb_and(alpha: int, kind: type[np.uint8 | np.uint16] = np.uint8) -> Samples:
    scale = np.iinfo(kind).max // 255
    colors = np.asarray(upright(), np.uint32)
    samples = np.dstack([colors, np.full((64, 96), alpha, np.uint32)]) * scale
    return samples.astype(np.uint8) if kind is np.uint8 else samples.astype(np.uint16)


def transparent() -> Image.Image:
    picture = upright().convert("RGBA")
    picture.putalpha(0)
    return picture


@pytest.mark.parametrize("alpha", [0, 255], ids=["zero", "full"])
@pytest.mark.parametrize("header", BMP_HEADERS)
def test_an_alpha_that_is_the_same_everywhere_in_a_bmp_is_none(header: str, alpha: int) -> None:
    data = bmp32(np.full((64, 96), float(alpha)), header)
    assert_close(decoded(data, MediaType.BMP), upright(), 0.1)


def test_an_alpha_of_a_bmp_that_differs_is_one() -> None:
    alpha = np.zeros((64, 96))
    alpha[:, :48] = 255
    half = upright()
    half.paste("white", (48, 0, 96, 64))
    assert_close(decoded(bmp32(alpha, "v5"), MediaType.BMP), half, 0.1)


@pytest.mark.parametrize("alpha", [0, 9])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_fourth_sample_of_a_tiff_without_extra_samples_is_no_alpha(
    kind: type[np.uint8 | np.uint16], alpha: int
) -> None:
    assert_close(decoded(tiff(rgb_and(alpha, kind), extra=None), MediaType.TIFF), upright(), 1)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_an_unspecified_extra_sample_of_a_tiff_is_no_alpha(kind: type[np.uint8 | np.uint16]) -> None:
    assert_close(decoded(tiff(rgb_and(0, kind), extra=0), MediaType.TIFF), upright(), 1)


def test_an_alpha_of_a_tiff_is_one() -> None:
    half = Image.blend(WHITE, upright(), 128 / 255)
    assert_close(decoded(tiff(rgb_and(128), extra=2), MediaType.TIFF), half, 1)
    assert problem_of(tiff(rgb_and(0), extra=2), MediaType.TIFF) is Problem.NOTHING_VISIBLE
    assert problem_of(tiff(rgb_and(0), extra=1), MediaType.TIFF) is Problem.NOTHING_VISIBLE


@pytest.mark.parametrize("media_type", [MediaType.PNG, MediaType.WEBP, MediaType.TIFF])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_picture_that_is_transparent_throughout_is_refused(mode: str, media_type: MediaType) -> None:
    options = {"exact": True} if media_type is MediaType.WEBP else {}
    data = encoded(transparent().convert(mode), media_type, **options)
    assert problem_of(data, media_type) is Problem.NOTHING_VISIBLE


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_picture_of_the_transparent_color_only_is_refused(mode: str) -> None:
    picture = Image.new("RGB", (96, 64), "black").convert(mode)
    key = {"P": picture.getpixel((0, 0)), "L": 0, "RGB": (0, 0, 0), "1": 0}[mode]
    data = encoded(picture, MediaType.PNG, transparency=key)
    assert problem_of(data, MediaType.PNG) is Problem.NOTHING_VISIBLE


def test_what_is_too_little_to_survive_scaling_is_not_visible_either() -> None:
    picture = transparent().resize((960, 640))
    picture.putpixel((0, 0), (255, 0, 0, 1))
    assert problem_of(encoded(picture, MediaType.PNG), MediaType.PNG) is Problem.NOTHING_VISIBLE


def remarks_of(data: bytes, media_type: MediaType) -> tuple[Remark, ...]:
    return decode_picture(data, media_type, stretched(96, 64)).remarks


@pytest.mark.parametrize("media_type", list(MediaType))
@pytest.mark.parametrize("color", ["white", "black", (181, 122, 97)])
def test_a_picture_of_one_color_is_remarked_on(
    media_type: MediaType, color: str | tuple[int, int, int]
) -> None:
    data = encoded(Image.new("RGB", (96, 64), color), media_type)
    assert remarks_of(data, media_type) == (Remark.ONE_COLOR,)


def test_a_picture_that_is_almost_transparent_throughout_looks_white_and_is_remarked_on() -> None:
    picture = transparent()
    picture.putpixel((0, 0), (255, 0, 0, 2))
    assert remarks_of(encoded(picture, MediaType.PNG), MediaType.PNG) == (Remark.ONE_COLOR,)


def test_a_picture_with_next_to_nothing_on_it_is_remarked_on() -> None:
    page = Image.new("RGB", (960, 640), "white")
    page.paste("black", (100, 100, 130, 130))
    capped = Image.new("RGB", (960, 640), "black")
    for at in range(0, 640, 160):
        capped.putpixel((at, at), (255, 255, 255))
    for picture in (page, capped):
        assert remarks_of(encoded(picture, MediaType.PNG), MediaType.PNG) == (Remark.ONE_COLOR,)
    page.paste("black", (100, 100, 300, 300))
    assert remarks_of(encoded(page, MediaType.PNG), MediaType.PNG) == ()


@pytest.mark.parametrize("media_type", list(MediaType))
def test_an_ordinary_picture_is_not_remarked_on(media_type: MediaType) -> None:
    assert remarks_of(encoded(upright(), media_type), media_type) == ()
    shade = Image.linear_gradient("L").resize((24, 16)).point(lambda value: 120 + value // 32)
    assert remarks_of(encoded(shade, media_type), media_type) == ()


@pytest.mark.parametrize(
    ("size", "is_tiny"),
    [((24, 16), False), ((23, 16), True), ((24, 15), True), ((1, 1), True), ((500, 3), True)],
)
def test_a_picture_that_was_enlarged_more_than_four_times_is_remarked_on(
    size: tuple[int, int], is_tiny: bool
) -> None:
    data = encoded(upright().resize(size), MediaType.PNG)
    assert (Remark.FEW_PIXELS in remarks_of(data, MediaType.PNG)) is is_tiny
