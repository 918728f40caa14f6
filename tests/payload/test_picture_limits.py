"""Pictures that want too much, or of which there are too many in one."""

import struct
import zlib

import pytest
from PIL import Image

from enclave_payload.media import MediaType
from enclave_payload.picture import MAX_PIXELS
from enclave_payload.verdict import Problem
from tests.payload.pictures import T, assert_close, chunk, decoded, encoded, png, problem_of, upright

# As picture.py does for the process; pytest sets its own filters for each test.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


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
