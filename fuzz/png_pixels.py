"""Any bytes stay the same object, or become a file of which zlib and Pillow get the same pixels as before.

The checksums of chunks and streams are made right first, or nearly every mutation would be refused for them.
The one exception is a stream with an incomplete code: zlib refuses it, and ISA-L reads it.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator

from isal import isal_zlib
from PIL import Image

from enclave_payload.media import MediaType
from enclave_payload.png_pixels import with_stored_pixels
from fuzz.picture import SEEDS as PICTURES
from tests.payload.pictures import chunk, encoded, incomplete_code, png

# What the first byte chooses.
_FILE, _STREAM = b"\0", b"\1"
_MAX_STREAM_PIXELS = 100_000


def _deflated(data: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15, 1, strategy)
    return deflater.compress(data) + deflater.flush()


def _split(data: bytes, pieces: int) -> bytes:
    """Return the file with its pixels in several chunks."""
    start = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, start)
    body, rest = data[start + 8 : start + 8 + length], data[start + 12 + length :]
    step = length // pieces + 1
    return (
        data[:start] + b"".join(chunk(b"IDAT", body[at : at + step]) for at in range(0, length, step)) + rest
    )


_FRAMES = [Image.new("L", (8, 8), 9), Image.new("L", (8, 8), 200)]
_ROWS = bytes(range(256)) * 4 + bytes(300) + b"rows of pixels, rows of pixels, rows"

# Files of each kind of pixels, in one chunk and in several; streams of each kind of block.
SEEDS: list[bytes] = [
    b"",
    *(_FILE + seed[1:] for seed in PICTURES if b"IHDR" in seed),
    *(_FILE + encoded(Image.new(mode, (9, 7), 1), MediaType.PNG) for mode in ("1", "L", "P", "LA", "I;16")),
    _FILE + encoded(Image.new("P", (9, 7), 1), MediaType.PNG, transparency=bytes(9)),
    _FILE + encoded(_FRAMES[0], MediaType.PNG, save_all=True, append_images=_FRAMES[1:]),
    _FILE + encoded(_FRAMES[0], MediaType.PNG, save_all=True, append_images=_FRAMES[1:], default_image=True),
    _FILE + _split(encoded(Image.effect_noise((9, 7), 90), MediaType.PNG), 3),
    _FILE + png((4, 2), 16, 6, chunk(b"IDAT", zlib.compress(bytes(66)))),
    _STREAM + incomplete_code("00", "00", "00", "00", "01")[2:-4],
    *(_STREAM + _deflated(_ROWS, level) for level in (0, 1, 9)),
    *(
        _STREAM + _deflated(_ROWS, 6, strategy)
        for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)
    ),
]


def one(data: bytes) -> None:
    file = _picture_of(data[1:]) if data[:1] == _STREAM else _repaired(data[1:])
    found = with_stored_pixels(file)
    if found is file:
        return
    stored = zlib.decompress(_compressed(found))
    pixels = _inflated(_compressed(file))
    assert pixels is None or (pixels == stored and _drawn(file) == _drawn(found))


def _inflated(compressed: bytes) -> bytes | None:
    """Return what zlib makes of a stream; None if it refuses a code, as in "invalid distances set"."""
    try:
        return zlib.decompress(compressed)
    except zlib.error as exc:
        if not str(exc).endswith(" set"):
            raise
        return None


def _picture_of(stream: bytes) -> bytes:
    """Return a picture of one gray row whose pixels are this deflated stream, with the right checksum."""
    inflater = isal_zlib.decompressobj(-15)
    try:
        pixels = inflater.decompress(stream, _MAX_STREAM_PIXELS)
    except isal_zlib.error:  # type: ignore[misc]
        return b""
    used = stream[: len(stream) - len(inflater.unused_data)]
    body = b"\x78\x01" + used + struct.pack(">I", zlib.adler32(pixels))
    return png((max(len(pixels) - 1, 0), 1), 8, 0, chunk(b"IDAT", body))


def _chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position + 12 <= len(file):
        length, kind = struct.unpack_from(">I4s", file, position)
        body = file[position + 8 : position + 8 + length]
        if position + 12 + length > len(file):
            return
        yield kind, body
        position += 12 + length


def _repaired(file: bytes) -> bytes:
    """Return the file with the right checksum behind each whole chunk."""
    whole = b"".join(chunk(kind, body) for kind, body in _chunks(file))
    return file[:8] + whole + file[8 + len(whole) :]


def _compressed(file: bytes) -> bytes:
    return b"".join(body for kind, body in _chunks(file) if kind == b"IDAT")


def _drawn(file: bytes) -> object:
    """Return all that Pillow tells of a picture; the kind of its error if it refuses it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(file), formats=["PNG"]) as image:
                image.load()
                return image.mode, image.size, image.tobytes(), image.getpalette(), image.info
        except Exception as exc:  # noqa: BLE001 - Pillow raises anything, and must do so for both
            return type(exc)
