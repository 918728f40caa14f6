"""Bounded picture decoding: hostile bytes in, a small RGB picture of the model's size out.

At most 16 MiB encoded, 50 megapixels decoded, 65,535 pixels a side, one frame. Orientation is applied; all
other metadata is dropped with the original.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from PIL import ExifTags, Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import EXTRASAMPLES, PHOTOMETRIC_INTERPRETATION, TiffImageFile
from PIL.TiffTags import TAGS_V2, TAGS_V2_GROUPS
from PIL.WebPImagePlugin import WebPImageFile

from enclave_payload.card import ModelInput
from enclave_payload.fitting import Placement, Size, place
from enclave_payload.jpeg_form import holds_its_pixels
from enclave_payload.media import MediaType
from enclave_payload.png_metadata import without_metadata
from enclave_payload.png_pixels import with_stored_pixels
from enclave_payload.verdict import Problem, Remark

MAX_PIXELS = 50_000_000
# JPEG's own. Resizing takes memory for each pixel of a side as well: 1.8 GiB for 1 x 50,000,000.
MAX_SIDE = 65_535

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

# TIFF 6.0, section 8: the type of a subfile, of which bit 0 says that it is a smaller copy of another image.
_SUBFILE_TYPE, _SMALLER_COPY = 254, 1
# Not those of fax machines: libtiff makes up what is damaged of them, and calls it a success.
_TIFF_COMPRESSIONS = {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg"}

# A JPEG of one color comes back within two steps of it; a photograph of anything spans more than these.
_MAX_STEPS_OF_ONE_COLOR = 3
# A dot on a white page, a hot pixel of a sensor under its cap, or the one pixel that is not transparent.
_MIN_SHARE_OF_ONE_COLOR = 0.98
# A WebP of one color ends in zeros by a twentieth of its length at most, others by less than a hundredth.
_MAX_SHARE_OF_ZEROS = 1 / 8
_MIN_ZEROS = 64  # a tiny file may end in many by its share
# A picture that has to be blown up more than this on a side has too little in it for the model to look at.
_MAX_ENLARGEMENT = 4

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedPicture:
    """An upright RGB picture of the size that was asked for.

    ``content`` is the part of it that is of the picture, without what was put around it.
    """

    image: Image.Image
    content: Image.Image
    enlargement: float

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What makes an answer about it worth less."""
        found = []
        channels = (self.content.getchannel(index) for index in range(3))
        # One after the other: the first one of nearly every picture says that it is not of one color.
        if all(_is_of_one_color(channel) for channel in channels):
            found.append(Remark.ONE_COLOR)
        if self.enlargement > _MAX_ENLARGEMENT:
            found.append(Remark.FEW_PIXELS)
        return tuple(found)


def _is_of_one_color(channel: Image.Image) -> bool:
    """Return whether nearly all pixels are within a few steps of each other."""
    counts = channel.histogram()
    enough = _MIN_SHARE_OF_ONE_COLOR * sum(counts)
    wide = _MAX_STEPS_OF_ONE_COLOR + 1
    if wide * max(counts) < enough:  # of nearly every picture
        return False
    below = [0, *accumulate(counts)]
    return any(high - low >= enough for low, high in zip(below, below[wide:], strict=False))


def decode_picture(data: bytes, media_type: MediaType, form: ModelInput) -> DecodedPicture:
    """Decode the picture, and bring it to the size of a model's input as the model's card says.

    Raises:
        PictureError: as ``decode_upright``.
    """
    return decode_upright(data, media_type, lambda size: place(form, size))


def decode_upright(data: bytes, media_type: MediaType, fit: Callable[[Size], Placement]) -> DecodedPicture:
    """Decode the picture, turn it upright, and scale it as ``fit`` says for its own size.

    Raises:
        PictureError: empty, not of ``media_type``, damaged, truncated, too large, several frames, nothing
            visible, or pixels that RGB cannot stand for.
        MemoryError: it takes more memory than this process may have.
    """
    if not data:
        raise PictureError(Problem.EMPTY)
    if media_type is MediaType.PNG:
        data = with_stored_pixels(without_metadata(data))
    try:
        with _DECODERS[media_type](io.BytesIO(data)) as image:
            picture = _decode(image, fit)
        _require_whole(data, media_type)
    except (PictureError, MemoryError):
        raise
    except Image.DecompressionBombError as exc:  # Pillow's own limit, which WebP meets before ours
        raise PictureError(Problem.TOO_MANY_PIXELS) from exc
    except Exception as exc:  # Pillow's plugins raise SyntaxError, struct.error, zlib.error, ...
        is_known = not _is_unknown_compression(exc)
        raise PictureError(Problem.UNREADABLE if is_known else Problem.UNSUPPORTED_COMPRESSION) from exc
    return picture


def _is_unknown_compression(exc: Exception) -> bool:
    """Return whether Pillow failed to find a TIFF's compression in its table, such as JPEG 2000's 34712."""
    cause = exc.__cause__
    key = cause.args[0] if isinstance(cause, KeyError) and cause.args else None
    return isinstance(exc, SyntaxError) and type(key) is int and key not in TAGS_V2


def _require_whole(data: bytes, media_type: MediaType) -> None:
    """Refuse a file of which a part is lost, where the decoder invented pixels in its place."""
    match media_type:
        case MediaType.JPEG:
            is_whole = holds_its_pixels(data)
        case MediaType.WEBP:
            zeros = len(data) - len(data.rstrip(b"\0"))
            is_whole = zeros <= max(_MIN_ZEROS, len(data) * _MAX_SHARE_OF_ZEROS)
        case _:
            is_whole = True
    if not is_whole:
        raise PictureError(Problem.UNREADABLE)


def _decode(image: ImageFile.ImageFile, fit: Callable[[Size], Placement]) -> DecodedPicture:
    if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
        raise PictureError(Problem.TOO_MANY_PIXELS)
    if not _has_one_frame(image):
        raise PictureError(Problem.MORE_THAN_ONE_FRAME)
    # Only a loaded picture knows its orientation: Pillow turns a TIFF itself and then forgets the tag, and a
    # PNG may carry EXIF behind its pixels.
    if isinstance(image, TiffImageFile):
        _check_tiff(image)
        _drop_directories(image)
    image.load()
    orientation = _orientation(image)
    swaps = orientation in _SWAPS_SIDES
    source = _swapped(image.size) if swaps else image.size
    # Scale first, turn after: turning 50 megapixels would need their memory twice.
    placement = fit(source)
    small = _scale(image, placement.turned() if swaps else placement)
    transpose = _UPRIGHT.get(orientation)
    upright = small if transpose is None else small.transpose(transpose)
    return DecodedPicture(image=placement.pad(upright), content=upright, enlargement=placement.enlargement)


def _check_tiff(image: TiffImageFile) -> None:
    if image.info.get("compression") not in _TIFF_COMPRESSIONS:
        raise PictureError(Problem.UNSUPPORTED_COMPRESSION)
    if PHOTOMETRIC_INTERPRETATION not in image.tag_v2:  # Pillow takes it for a negative
        raise PictureError(Problem.UNREADABLE)
    kind = image.tag_v2.get(_SUBFILE_TYPE, 0)
    if isinstance(kind, int) and kind & _SMALLER_COPY:  # a raw file's, whose own image Pillow does not see
        raise PictureError(Problem.MORE_THAN_ONE_FRAME)


def _drop_directories(image: TiffImageFile) -> None:
    # Loading a TIFF reads these into memory, and fails where one is damaged.
    exif = image.getexif()
    for tag in TAGS_V2_GROUPS:
        exif.pop(tag, None)


def _orientation(image: ImageFile.ImageFile) -> int:
    """1 to 8, as EXIF has it; 1, which changes nothing, where the metadata is damaged or says nothing."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow's readers raise anything, and the pixels are sound
        return 1
    return orientation if isinstance(orientation, int) and orientation in _UPRIGHT else 1


def _swapped(size: Size) -> Size:
    return size[1], size[0]


def _has_one_frame(image: Image.Image) -> bool:
    # Not n_frames: for TIFF it walks a chain of directories that the sender wrote.
    try:
        image.seek(1)
    except EOFError:
        return True
    return False


def _scale(image: ImageFile.ImageFile, placement: Placement) -> Image.Image:
    if image.mode not in _CONVERTIBLE | _WITH_ALPHA:
        raise PictureError(Problem.UNSUPPORTED_PIXELS)
    has_alpha = image.mode in _WITH_ALPHA or "transparency" in image.info
    if not has_alpha or _is_fourth_sample_unnamed(image):
        return placement.scale(_converted(image, "RGB"))
    # Transparent means "nothing here": put white behind it, as a viewer or a printer does. Resizing weighs
    # colors by their alpha, so white may come after it, when the picture is small.
    full = _converted(image, "RGBA")
    picture = placement.scale(full)
    if picture.getbbox(alpha_only=True) is None:
        # Programs that know no alpha leave it zero in BMP; Windows, browsers and GIMP then take it as opaque.
        if isinstance(image, BmpImageFile) and full.getbbox(alpha_only=True) is None:
            return placement.scale(full.convert("RGB"))
        raise PictureError(Problem.NOTHING_VISIBLE)
    background = Image.new("RGB", placement.size, "white")
    background.paste(picture, mask=picture.getchannel("A"))
    return background


def _is_fourth_sample_unnamed(image: ImageFile.ImageFile) -> bool:
    # TIFF 6.0, section 18: only ExtraSamples makes a further sample an alpha. OpenCV leaves it out.
    return isinstance(image, TiffImageFile) and EXTRASAMPLES not in image.tag_v2


def _converted(image: Image.Image, mode: str) -> Image.Image:
    # convert() would copy even what has the mode already: 200 MB at the limit.
    return image if image.mode == mode else image.convert(mode)
