"""Small copies of pictures for people to look at: upright, and without the metadata of the picture."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enclavectl.protocol.decoder import PictureError, decode_upright

if TYPE_CHECKING:
    from enclavectl.client.pictures import Picture

# What a report shows is half as wide; the rest is for screens with two dots a pixel, and for print.
MAX_PREVIEW_SIDE = 512
# Pillow's default of 75 shows blocks in the smooth shades of skin.
_JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A JPEG of at most 512 x 512 pixels."""

    data: bytes = field(repr=False)
    width: int
    height: int


def preview_of(picture: Picture) -> Preview | None:
    """The picture as the enclave's own decoder reads it, made smaller; None if it cannot be decoded here."""
    try:
        image = decode_upright(picture.data, picture.media_type, _fit).image
    except PictureError:
        return None
    image.info.clear()  # Pillow carries a comment over into what it saves
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
