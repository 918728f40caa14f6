"""Pictures of which a decoder would invent a part are refused, as far as that can be seen."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from enclave_payload.contents import Problem
from enclave_payload.jpeg_form import holds_its_pixels
from enclave_payload.media import MediaType
from tests.payload.pictures import decoded, encoded, problem_of, upright

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

FORMS: list[dict[str, object]] = [
    {},
    {"quality": 1},
    {"progressive": True},
    {"progressive": True, "optimize": True, "quality": 1},
    {"subsampling": "4:4:4"},
    {"subsampling": "4:2:2", "optimize": True},
    {"restart_marker_blocks": 1},
    {"restart_marker_rows": 1, "progressive": True},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 33), (640, 481)])
def test_the_emptiest_picture_of_any_form_is_whole(
    form: dict[str, object], mode: str, size: tuple[int, int]
) -> None:
    """One color takes the fewest bits that there are."""
    picture = Image.new("RGB", size, "gray").convert(mode)
    assert holds_its_pixels(encoded(picture, MediaType.JPEG, **form))


def resized(data: bytes, height: int) -> bytes:
    """The same bits under a frame that says more rows."""
    frame = next(data.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in data)
    return data[: frame + 5] + height.to_bytes(2, "big") + data[frame + 7 :]


@pytest.mark.parametrize("form", FORMS[:6])
def test_a_frame_of_more_rows_than_there_are_bits_for_is_unreadable(form: dict[str, object]) -> None:
    data = encoded(Image.new("RGB", (640, 480), "gray"), MediaType.JPEG, **form)
    decoded(data, MediaType.JPEG)
    assert problem_of(resized(data, 48_000), MediaType.JPEG) is Problem.UNREADABLE


@pytest.mark.parametrize("keep", [0.3, 0.6])
def test_a_picture_that_was_cut_and_ended_again_is_unreadable_where_its_bits_are_too_few(keep: float) -> None:
    """What a broken upload leaves, after a tool has put an end to it."""
    data = encoded(Image.new("RGB", (4000, 3000), "gray"), MediaType.JPEG, optimize=True)
    scan = data.index(b"\xff\xda") + 14
    cut = data[: scan + int((len(data) - scan) * keep)] + b"\xff\xd9"
    assert problem_of(cut, MediaType.JPEG) is Problem.UNREADABLE


def test_damage_that_leaves_enough_bits_is_not_seen() -> None:
    """As docs/operations.md says: JPEG has no checksum."""
    data = bytearray(encoded(upright(), MediaType.JPEG))
    data[-20] ^= 1
    decoded(bytes(data), MediaType.JPEG)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax_compression_is_unreadable(compression: str) -> None:
    data = encoded(upright().convert("1"), MediaType.TIFF, compression=compression)
    assert problem_of(data, MediaType.TIFF) is Problem.UNREADABLE


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_other_compressions_are_read(compression: str | None) -> None:
    decoded(encoded(upright(), MediaType.TIFF, compression=compression), MediaType.TIFF)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
def test_a_tiff_that_was_cut_is_unreadable(compression: str) -> None:
    file = io.BytesIO()
    Image.effect_noise((96, 64), 90).save(file, "TIFF", compression=compression)
    assert problem_of(file.getvalue()[:4000], MediaType.TIFF) is Problem.UNREADABLE
