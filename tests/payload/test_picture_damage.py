"""Pictures of which a decoder would invent a part are refused, as far as that can be seen."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from enclave_payload.jpeg_form import holds_its_pixels
from enclave_payload.media import MediaType
from enclave_payload.verdict import Problem
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
def test_fax_compression_is_refused(compression: str) -> None:
    data = encoded(upright().convert("1"), MediaType.TIFF, compression=compression)
    assert problem_of(data, MediaType.TIFF) is Problem.UNSUPPORTED_COMPRESSION


@pytest.mark.parametrize("compression", ["zstd", "lzma"])
def test_a_compression_that_is_not_read_is_not_called_damage(compression: str) -> None:
    data = encoded(upright(), MediaType.TIFF, compression=compression)
    assert problem_of(data, MediaType.TIFF) is Problem.UNSUPPORTED_COMPRESSION


# JPEG 2000 in three forms, JBIG, LERC, JPEG XL, and numbers of nobody.
@pytest.mark.parametrize("number", [34712, 33003, 33005, 34661, 34887, 50002, 52546, 9, 65535])
def test_a_compression_that_the_decoder_does_not_know_is_told_by_name(number: int) -> None:
    data = encoded(upright(), MediaType.TIFF)
    entry = struct.pack("<HHI", 259, 3, 1)
    assert data.count(entry) == 1
    at = data.index(entry) + len(entry)
    changed = data[:at] + struct.pack("<H", number) + data[at + 2 :]
    assert problem_of(changed, MediaType.TIFF) is Problem.UNSUPPORTED_COMPRESSION


def test_a_tiff_without_a_size_is_damaged() -> None:
    data = encoded(upright(), MediaType.TIFF)
    width = struct.pack("<HH", 256, 4) if struct.pack("<HH", 256, 4) in data else struct.pack("<HH", 256, 3)
    assert data.count(width) == 1
    changed = data.replace(width, struct.pack("<HH", 65000, 3))
    assert problem_of(changed, MediaType.TIFF) is Problem.UNREADABLE


def noise(size: tuple[int, int] = (640, 480)) -> Image.Image:
    return Image.merge("RGB", [Image.effect_noise(size, 60) for _ in range(3)])


WITHOUT_CHECKSUM: list[tuple[MediaType, dict[str, object]]] = [
    *((MediaType.JPEG, form) for form in FORMS[:6]),
    (MediaType.WEBP, {}),
    (MediaType.WEBP, {"lossless": False}),
]


@pytest.mark.parametrize(("media_type", "form"), WITHOUT_CHECKSUM)
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8])
def test_a_file_whose_end_is_zeros_is_unreadable(
    media_type: MediaType, form: dict[str, object], keep: float
) -> None:
    """The length was there before the content: a broken download, a card that was pulled out too early."""
    data = encoded(noise(), media_type, **form)
    cut = int(len(data) * keep)
    assert problem_of(data[:cut] + bytes(len(data) - cut), media_type) is Problem.UNREADABLE


@pytest.mark.parametrize("form", [{}, {"optimize": True}, {"subsampling": "4:4:4"}, {"quality": 97}])
def test_a_sector_of_zeros_in_a_jpeg_is_unreadable(form: dict[str, object]) -> None:
    data = encoded(noise(), MediaType.JPEG, **form)
    half = len(data) // 2
    assert problem_of(data[:half] + bytes(512) + data[half + 512 :], MediaType.JPEG) is Problem.UNREADABLE


@pytest.mark.parametrize(("media_type", "form"), WITHOUT_CHECKSUM)
@pytest.mark.parametrize("color", ["white", "black", "red"])
def test_a_large_flat_area_is_no_hole(media_type: MediaType, form: dict[str, object], color: str) -> None:
    picture = Image.new("RGB", (2000, 1500), color)
    decoded(encoded(picture, media_type, **form), media_type)
    picture.paste(noise(), (0, 0))
    decoded(encoded(picture, media_type, **form), media_type)


@pytest.mark.parametrize("behind", [bytes(4096), b"\r\n<br>", b"\0\0\0\x18ftypmp42" + bytes(999)])
def test_what_follows_the_end_of_a_jpeg_is_not_looked_at(behind: bytes) -> None:
    """Cameras put films there, and copies pad to whole blocks."""
    decoded(encoded(noise(), MediaType.JPEG) + behind, MediaType.JPEG)


def retagged(data: bytes, number: int, value: int) -> bytes:
    """The first directory of a little-endian TIFF, with another short value at that tag."""
    at = data.index(number.to_bytes(2, "little"), int.from_bytes(data[4:8], "little"))
    return data[: at + 8] + value.to_bytes(4, "little") + data[at + 12 :]


def test_a_thumbnail_beside_the_picture_is_refused() -> None:
    """What Pillow sees of a camera's raw file, as NEF, ARW and DNG are."""
    data = encoded(upright(), MediaType.TIFF, tiffinfo={254: 0})
    decoded(data, MediaType.TIFF)
    assert problem_of(retagged(data, 254, 1), MediaType.TIFF) is Problem.MORE_THAN_ONE_FRAME


def test_a_tiff_that_does_not_say_what_its_numbers_mean_is_unreadable() -> None:
    """Without PhotometricInterpretation Pillow takes gray for a negative."""
    data = encoded(upright().convert("L"), MediaType.TIFF)
    at = data.index((262).to_bytes(2, "little"), int.from_bytes(data[4:8], "little"))
    unsaid = data[:at] + (263).to_bytes(2, "little") + data[at + 2 :]
    assert problem_of(unsaid, MediaType.TIFF) is Problem.UNREADABLE


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_other_compressions_are_read(compression: str | None) -> None:
    decoded(encoded(upright(), MediaType.TIFF, compression=compression), MediaType.TIFF)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
def test_a_tiff_that_was_cut_is_unreadable(compression: str) -> None:
    file = io.BytesIO()
    Image.effect_noise((96, 64), 90).save(file, "TIFF", compression=compression)
    assert problem_of(file.getvalue()[:4000], MediaType.TIFF) is Problem.UNREADABLE
