"""Previews: small, upright copies of pictures without the picture's metadata."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enclavectl.protocol.decoder import PictureError, Placement, decode_upright

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


def _fit(source: tuple[int, int]) -> Placement:
    width, height = source
    part = min(1, MAX_PREVIEW_SIDE / max(source))
    return Placement(
        box=(0, 0, width, height), size=(max(1, round(width * part)), max(1, round(height * part)))
    )
