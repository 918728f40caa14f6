"""Which pictures the enclave takes. A module of its own, so that a client can ask without loading more."""

from __future__ import annotations

from enum import StrEnum

MAX_PICTURE_BYTES = 16 * 1024 * 1024


class MediaType(StrEnum):
    """The picture formats that the enclave decodes; the value names the only decoder that is tried."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    BMP = "image/bmp"
    TIFF = "image/tiff"
