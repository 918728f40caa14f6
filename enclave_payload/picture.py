"""Bounded picture decoding: hostile bytes in, a small RGB picture of the model's size out.

Limits are DESIGN's: 16 MiB encoded, 50 megapixels decoded, one frame. Orientation from EXIF is applied;
all other metadata is dropped with the original.
"""

from __future__ import annotations

import io
import logging
import warnings

from PIL import ExifTags, Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from enclave_payload.contents import Problem
from enclave_payload.media import MediaType

MAX_PIXELS = 50_000_000

# A damaged tag that Pillow warns of or logs does not change the pixels, and no text about a picture belongs
# on a console. Once for the process: catch_warnings() for each picture would race between worker threads.
warnings.filterwarnings("ignore", module="PIL")
logging.getLogger("PIL").addHandler(logging.NullHandler())

# The decoders by class, not Image.open: that one loads all forty plugins and tries each in turn.
_DECODERS: dict[MediaType, type[ImageFile.ImageFile]] = {
    MediaType.JPEG: JpegImageFile,
    MediaType.PNG: PngImageFile,
    MediaType.WEBP: WebPImageFile,
    MediaType.BMP: BmpImageFile,
    MediaType.TIFF: TiffImageFile,
}
# 16- and 32-bit pixels ("I;16", "I", "F") are refused: their range is not in the file, and Pillow's
# conversion clips them, which would classify a different picture than the one that was sent.
_CONVERTIBLE = {"1", "L", "P", "RGB", "YCbCr", "CMYK"}
_WITH_ALPHA = {"LA", "PA", "RGBA", "La", "RGBa"}

# EXIF 2.32, tag 0x0112: what to do to the stored picture so that it stands upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = {5, 6, 7, 8}


class PictureError(Exception):
    """The picture cannot be classified; ``problem`` says why in a word that may leave the enclave."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def decode_picture(data: bytes, media_type: MediaType, *, width: int, height: int) -> Image.Image:
    """The picture, upright, RGB, ``width`` x ``height`` (bilinear; the aspect ratio is not kept).

    Raises:
        PictureError: empty, not of ``media_type``, damaged, truncated, too large, several frames, or
            pixels that RGB cannot stand for.
    """
    if not data:
        raise PictureError(Problem.EMPTY)
    try:
        with _DECODERS[media_type](io.BytesIO(data)) as image:
            return _decode(image, width, height)
    except PictureError:
        raise
    except Image.DecompressionBombError as exc:  # Pillow's own limit, which WebP meets before ours
        raise PictureError(Problem.TOO_MANY_PIXELS) from exc
    except Exception as exc:  # Pillow's plugins raise SyntaxError, struct.error, zlib.error, ...
        raise PictureError(Problem.UNREADABLE) from exc


def _decode(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(Problem.TOO_MANY_PIXELS)
    if not _has_one_frame(image):
        raise PictureError(Problem.MORE_THAN_ONE_FRAME)
    # Only a loaded picture knows its orientation: Pillow turns a TIFF itself and then forgets the tag, and a
    # PNG may carry EXIF behind its pixels.
    image.load()
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    target = (height, width) if orientation in _SWAPS_SIDES else (width, height)
    # Scale first, turn after: turning 50 megapixels would need their memory twice.
    small = _scale(image, target)
    transpose = _UPRIGHT.get(orientation)
    return small if transpose is None else small.transpose(transpose)


def _has_one_frame(image: Image.Image) -> bool:
    # Not n_frames: for TIFF it walks a chain of directories that the sender wrote.
    try:
        image.seek(1)
    except EOFError:
        return True
    return False


def _scale(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.mode not in _CONVERTIBLE | _WITH_ALPHA:
        raise PictureError(Problem.UNSUPPORTED_PIXELS)
    if image.mode not in _WITH_ALPHA and "transparency" not in image.info:
        return _converted(image, "RGB").resize(size, Image.Resampling.BILINEAR)
    # Transparent means "nothing here": put white behind it, as a viewer or a printer does. Resizing weighs
    # colors by their alpha, so white may come after it, when the picture is small.
    picture = _converted(image, "RGBA").resize(size, Image.Resampling.BILINEAR)
    background = Image.new("RGB", size, "white")
    background.paste(picture, mask=picture.getchannel("A"))
    return background


def _converted(image: Image.Image, mode: str) -> Image.Image:
    # convert() would copy even what has the mode already: 200 MB at the limit.
    return image if image.mode == mode else image.convert(mode)
