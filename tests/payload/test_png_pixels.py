"""PNG files whose pixels are stored for Pillow: the same picture, or the very same file."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from enclave_payload.limits import Limits
from enclave_payload.media import MediaType
from enclave_payload.png_pixels import MAX_FILE_BYTES, MAX_PIXEL_BYTES, with_stored_pixels
from tests.payload.decoders import FORKS_BESIDE_THREADS, decoders
from tests.payload.pictures import chunk, decoded, encoded, incomplete_code, png

# Two rows of seven gray pixels, each row with its filter: none, and the row above.
ROWS = bytes([0, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1])
STREAM = zlib.compress(ROWS)
USUAL = png((7, 2), 8, 0, chunk(b"IDAT", STREAM))


def drawn(data: bytes) -> tuple[str, tuple[int, int], bytes, object]:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        image.load()
        return image.mode, image.size, image.tobytes(), image.info


def assert_stored(data: bytes) -> None:
    """The pixels of this file become stored, and Pillow gets the same of them."""
    found = with_stored_pixels(data)
    assert found is not data
    assert drawn(found) == drawn(data)
    with Image.open(io.BytesIO(found), formats=["PNG"]) as image:
        image.verify()  # the checksums of all chunks


def gray(compressed: bytes, *before: bytes) -> bytes:
    return png((7, 2), 8, 0, *before, chunk(b"IDAT", compressed))


def header(size: tuple[int, int], depth: int, color: int, *methods: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBB3B", *size, depth, color, *methods))


def of_header(head: bytes) -> bytes:
    return USUAL[:8] + head + chunk(b"IDAT", STREAM) + chunk(b"IEND", b"")


@given(
    mode=st.sampled_from(["L", "LA", "P", "RGB", "RGBA"]),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    level=st.integers(0, 9),
    colors=st.integers(1, 255),
    seed=st.integers(0, 2**32 - 1),
)
def test_pictures_of_all_usual_modes_stay_the_same(
    mode: str, size: tuple[int, int], level: int, colors: int, seed: int
) -> None:
    samples = np.random.default_rng(seed).integers(0, colors + 1, (size[1], size[0], 4), np.uint8)
    picture = Image.fromarray(samples).convert(mode)
    data = encoded(picture, MediaType.PNG, compress_level=level)
    found = with_stored_pixels(data)
    if data[24] == 8 and data[41] == 0x78:  # Pillow writes a palette of 16 colors with 4 bits or fewer
        assert found is not data
    assert drawn(found) == drawn(data)


@pytest.mark.parametrize(("color", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_pictures_of_16_bits_stay_the_same(color: int, samples: int) -> None:
    row = b"\1" + np.random.default_rng(1).bytes(2 * samples * 30)
    assert_stored(png((30, 20), 16, color, chunk(b"IDAT", zlib.compress(row * 20))))


@pytest.mark.parametrize("size", [1, 0xFFFE, 0xFFFF, 0x10000, 2 * 0xFFFF, 2 * 0xFFFF + 1])
def test_pixels_may_take_one_stored_block_or_several(size: int) -> None:
    rows = bytes(1 if at % 2 == 0 else at % 251 for at in range(2 * (-(-size // 2))))
    assert_stored(png((1, len(rows) // 2), 8, 0, chunk(b"IDAT", zlib.compress(rows, 9))))


@pytest.mark.parametrize(
    "data",
    [
        png((7, 2), 8, 0, *(chunk(b"IDAT", STREAM[at : at + 1]) for at in range(len(STREAM)))),
        png((7, 2), 8, 0, chunk(b"IDAT", b""), chunk(b"IDAT", STREAM), chunk(b"IDAT", b"")),
        gray(STREAM, chunk(b"tRNS", b"\0\1"), chunk(b"tEXt", b"a\0b")),
        png((7, 2), 8, 0, chunk(b"IDAT", STREAM), chunk(b"tEXt", b"a\0b"), chunk(b"IDAT", b"more")),
        png((7, 2), 8, 0, chunk(b"IDAT", STREAM)) + b"behind the end",
        png((7, 2), 8, 3, chunk(b"PLTE", bytes(30)), chunk(b"IDAT", STREAM)),
    ],
    ids=["many chunks", "empty chunks", "chunks before", "chunks behind", "behind the end", "palette"],
)
def test_the_rest_of_the_file_stays_as_it_is(data: bytes) -> None:
    assert_stored(data)


CUT = USUAL[: USUAL.index(b"IDAT") + 6]
UNUSUAL = {
    "nothing": b"",
    "no PNG": b"BM" + bytes(100),
    "a header only": USUAL[:33],
    "part of a header": USUAL[:30],
    "no pixels": png((7, 2), 8, 0),
    "a cut chunk": CUT,
    "a cut stream": gray(STREAM[:-5]),
    "no checksum": gray(STREAM[:-4]),
    "part of a checksum": gray(STREAM[:-1]),
    "wrong checksum": gray(STREAM[:-1] + bytes([STREAM[-1] ^ 1])),
    "no stream": gray(b""),
    "one byte behind the stream": gray(STREAM + b"\0"),
    "many bytes behind the stream": gray(STREAM + bytes(1000)),
    "a second stream": gray(STREAM * 2),
    "a row too few": png((7, 3), 8, 0, chunk(b"IDAT", STREAM)),
    "a row too many": png((7, 1), 8, 0, chunk(b"IDAT", STREAM)),
    "a byte too many": gray(zlib.compress(ROWS + b"\0")),
    "a byte too few": gray(zlib.compress(ROWS[:-1])),
    "no height": png((7, 0), 8, 0, chunk(b"IDAT", zlib.compress(b""))),
    "chunks apart": png(
        (7, 2), 8, 0, chunk(b"IDAT", STREAM[:9]), chunk(b"tEXt", b"a\0b"), chunk(b"IDAT", STREAM[9:])
    ),
    "a second header": gray(STREAM, header((7, 3), 8, 0, 0, 0, 0)),
    "pixels before the header": USUAL[:8] + chunk(b"IDAT", STREAM) + USUAL[8:],
    "the end before the pixels": gray(STREAM, chunk(b"IEND", b"")),
    "frames": gray(STREAM, chunk(b"acTL", struct.pack(">II", 1, 0))),
    "pixels of a frame first": gray(STREAM, chunk(b"fdAT", bytes(4) + STREAM)),
    "an unknown chunk": gray(STREAM, chunk(b"abCd", b"")),
    "a chunk that is cut": gray(STREAM, struct.pack(">I4s", 2**31, b"tEXt")),
    "a long header": USUAL[:8] + chunk(b"IHDR", USUAL[16:29] + b"\0") + USUAL[33:],
    "interlaced": of_header(header((7, 2), 8, 0, 0, 0, 1)),
    "another filter method": of_header(header((7, 2), 8, 0, 0, 1, 0)),
    "another compression": of_header(header((7, 2), 8, 0, 1, 0, 0)),
    "three bits": png((7, 2), 3, 0, chunk(b"IDAT", STREAM)),
    "one bit": png((56, 2), 1, 0, chunk(b"IDAT", STREAM)),
    "a palette of 16 bits": png((7, 2), 16, 3, chunk(b"IDAT", zlib.compress(bytes(30)))),
    "an unknown color type": png((7, 2), 8, 5, chunk(b"IDAT", STREAM)),
    "a dictionary": gray(b"\x78\xbb" + bytes(4) + STREAM[2:]),
    "a smaller window": gray(b"\x08\x1d" + STREAM[2:]),
    "a larger window": gray(b"\x88\x1c" + STREAM[2:]),
    "a wrong head of the stream": gray(b"\x78\x9d" + STREAM[2:]),
    "gzip": gray(zlib.compressobj(wbits=31).compress(ROWS)),
    "no head of the stream": gray(STREAM[2:]),
    "a word without a meaning": gray(incomplete_code(*["00"] * 16, "10", "01")),
    "more than any memory": png((2**31 - 1, 2**31 - 1), 16, 6, chunk(b"IDAT", STREAM)),
    "a bomb": png((1, 8), 8, 0, chunk(b"IDAT", zlib.compress(bytes(50_000_000), 9))),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_file_is_the_very_same(name: str) -> None:
    data = UNUSUAL[name]
    assert with_stored_pixels(data) is data


@pytest.mark.parametrize("flipped", range(8 * len(STREAM)))
def test_a_flipped_bit_of_the_stream_leaves_the_file_as_it_is(flipped: int) -> None:
    stream = bytearray(STREAM)
    stream[flipped // 8] ^= 1 << flipped % 8
    data = gray(bytes(stream))
    if with_stored_pixels(data) is not data:  # of the last byte before the checksum, not all bits are used
        assert flipped // 8 == len(STREAM) - 5
        assert zlib.decompress(stream) == ROWS


def test_pixels_that_continue_a_frame_are_not_touched() -> None:
    """Pillow begins with what a frame has, and takes the bytes of the pixel chunk as they are in the file."""
    row = bytes(31)
    body = zlib.compress(row)
    begin = b"\x78\x01\x01" + struct.pack("<HH", len(row), len(row) ^ 0xFFFF) + row[len(body) :]
    control = struct.pack(">IIIIIHHBB", 0, 30, 1, 0, 0, 1, 1, 0, 0)
    frame = chunk(b"fcTL", control) + chunk(b"fdAT", struct.pack(">I", 1) + begin)
    data = png((30, 1), 8, 0, frame, chunk(b"IDAT", body))
    assert drawn(data)[2].endswith(body)
    assert with_stored_pixels(data) is data


def test_the_limit_of_pixels_is_exact() -> None:
    width = 1023
    for height, is_stored in [(MAX_PIXEL_BYTES // 1024, True), (MAX_PIXEL_BYTES // 1024 + 1, False)]:
        pixels = zlib.compress(bytes(1024 * height), 1)
        data = png((width, height), 8, 0, chunk(b"IDAT", pixels))
        assert (with_stored_pixels(data) is not data) == is_stored


def test_the_limit_of_the_file_is_exact() -> None:
    """Whatever the file has that many bytes for; here the end of it."""
    full = USUAL + bytes(MAX_FILE_BYTES - len(USUAL))
    assert_stored(full)
    over = full + b"\0"
    assert with_stored_pixels(over) is over


def test_a_code_that_zlib_refuses_is_read_if_the_checksum_is_right() -> None:
    """Zlib wants each word of a code to mean something, ISA-L does not; no encoder writes others."""
    data = gray(incomplete_code(*["00"] * 16, "01"))
    with pytest.raises(zlib.error, match="invalid literal/lengths set"):
        zlib.decompress(incomplete_code(*["00"] * 16, "01"))
    assert drawn(with_stored_pixels(data))[2] == bytes(14)
    # And this is what the payload does with its pictures: Pillow alone would refuse it.
    assert decoded(data, MediaType.PNG).getextrema() == ((0, 0), (0, 0), (0, 0))


@pytest.mark.filterwarnings(FORKS_BESIDE_THREADS)
def test_a_picture_at_the_limit_takes_less_memory_than_the_largest() -> None:
    """docs/operations.md: a palette of 7,000 x 7,000 with alpha takes 427 MiB."""
    side = int(MAX_PIXEL_BYTES**0.5) - 1
    before = [chunk(b"PLTE", bytes(768)), chunk(b"tRNS", bytes([99]) * 256)]
    data = png((side, side), 8, 3, *before, chunk(b"IDAT", zlib.compress(bytes(side * (side + 1)), 1)))
    assert with_stored_pixels(data) is not data
    with decoders(limits=Limits(picture_memory_bytes=427 << 20)) as (decoder,):
        assert decoder.classify(data, MediaType.PNG, lambda: True).verdict.problem is None
