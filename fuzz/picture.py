"""Any bytes of any media type are an RGB picture of the size asked for, or a PictureError."""

import io

from PIL import Image

from enclave_payload.card import Filter, Fit, ModelInput
from enclave_payload.media import MediaType
from enclave_payload.picture import PictureError, decode_picture

_TYPES = tuple(MediaType)
# By the length of the file: each fit, and each filter.
_FITS = ((Fit.STRETCH, None, None), (Fit.CROP, "0.875", None), (Fit.PAD, None, 9))
_FORMS = tuple(
    ModelInput(width=9, height=7, fit=fit, crop=crop, pad=pad, filter=each)
    for fit, crop, pad in _FITS
    for each in Filter
)


def _seed(number: int, media_type: MediaType, mode: str, orientation: int) -> bytes:
    picture = Image.new("RGB", (8, 8), "white")
    picture.paste("red", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture.convert(mode).save(
        file, media_type.name, **({} if media_type is MediaType.BMP else {"exif": exif})
    )
    return bytes([number]) + file.getvalue()


# The first byte chooses the media type.
SEEDS: list[bytes] = [
    b"",
    *(_seed(number, media_type, "RGB", 6) for number, media_type in enumerate(_TYPES)),
    _seed(_TYPES.index(MediaType.PNG), MediaType.PNG, "RGBA", 1),
    _seed(_TYPES.index(MediaType.PNG), MediaType.PNG, "P", 3),
    _seed(_TYPES.index(MediaType.TIFF), MediaType.TIFF, "CMYK", 8),
    _seed(_TYPES.index(MediaType.JPEG), MediaType.JPEG, "L", 5),
]


def one(data: bytes) -> None:
    if not data:
        return
    try:
        media_type, form = _TYPES[data[0] % len(_TYPES)], _FORMS[len(data) % len(_FORMS)]
        picture = decode_picture(data[1:], media_type, form).image
    except PictureError:
        return
    assert (picture.mode, picture.size) == ("RGB", (9, 7))
