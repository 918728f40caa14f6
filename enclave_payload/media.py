"""Which pictures the enclave takes. A module of its own, so that a client can ask without loading more."""

from __future__ import annotations

from enum import StrEnum

# A phone's JPEG of 50 megapixels has 10 to 15 MiB.
MAX_PICTURE_BYTES = 16 * 1024 * 1024


class MediaType(StrEnum):
    """The picture formats that the enclave decodes; the value names the only decoder that is tried."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    BMP = "image/bmp"
    TIFF = "image/tiff"


# On the wire: the first byte of a request. 0 is no format, so that zeros are no request.
MEDIA_CODES = {
    MediaType.JPEG: 1,
    MediaType.PNG: 2,
    MediaType.WEBP: 3,
    MediaType.BMP: 4,
    MediaType.TIFF: 5,
}
