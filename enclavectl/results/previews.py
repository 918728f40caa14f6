"""Previews: small, upright copies of pictures without the picture's metadata."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enclavectl.protocol.decoder import PictureError, decode_upright

if TYPE_CHECKING:
    from enclavectl.client.pictures import Picture

# Pixels. A report shows half of it; the rest is for high-resolution screens and print.
MAX_PREVIEW_SIDE = 512
# Pillow's default of 75 leaves visible blocks in the smooth shades of skin.
_JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A JPEG of at most 512 x 512 pixels."""

    data: bytes = field(repr=False)
    width: int
    height: int


def preview_of(picture: Picture) -> Preview | None:
    """Decode the picture with the enclave's decoder and scale it down; None if decoding fails here."""
    try:
        image = decode_upright(picture.data, picture.media_type, _fit).image
    except PictureError:
        return None
    image.info.clear()  # Pillow would copy a comment into the saved file
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return Preview(data=file.getvalue(), width=image.width, height=image.height)


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    longest = max(width, height)
    if longest <= MAX_PREVIEW_SIDE:
        return size
    return (
        max(1, round(width * MAX_PREVIEW_SIDE / longest)),
        max(1, round(height * MAX_PREVIEW_SIDE / longest)),
    )
