"""Previews: small, upright, and without what the picture carried along."""

from __future__ import annotations

import io

import pytest
from PIL import Image, PngImagePlugin

from enclave_payload.media import MediaType
from enclavectl.client.pictures import Picture
from enclavectl.results.previews import MAX_PREVIEW_SIDE, Preview, preview_of

NAME = "Doe^Jane 1970-01-01"


def picture(image: Image.Image, media_type: MediaType, **options: object) -> Picture:
    file = io.BytesIO()
    image.save(file, media_type.name, **options)
    return Picture("a", media_type, file.getvalue())


def opened(preview: Preview | None) -> Image.Image:
    assert preview is not None
    image = Image.open(io.BytesIO(preview.data))
    assert (image.format, image.size) == ("JPEG", (preview.width, preview.height))
    return image


@pytest.mark.parametrize("media_type", list(MediaType))
@pytest.mark.parametrize(
    ("size", "expected"),
    [((3000, 2000), (512, 341)), ((20, 1000), (10, 512)), ((512, 512), (512, 512)), ((4, 3), (4, 3))],
)
def test_a_preview_is_small_and_keeps_the_proportions(
    media_type: MediaType, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    source = picture(Image.new("RGB", size, "red"), media_type)
    image = opened(preview_of(source))
    assert image.size == expected
    assert max(expected) <= MAX_PREVIEW_SIDE


def test_a_line_of_pixels_has_a_preview() -> None:
    assert opened(preview_of(picture(Image.new("L", (1, 5000)), MediaType.PNG))).size == (1, 512)


def test_a_preview_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.new("RGB", (300, 200), "white")
    stored.paste("black", (0, 0, 150, 200))  # the left half, which is to be the upper one
    image = opened(preview_of(picture(stored, MediaType.JPEG, exif=exif))).convert("L")
    assert image.size == (200, 300)
    assert image.getpixel((100, 20)) == 0
    assert image.getpixel((100, 280)) == 255


@pytest.mark.parametrize("media_type", [MediaType.JPEG, MediaType.PNG, MediaType.WEBP, MediaType.TIFF])
def test_no_metadata_comes_through(media_type: MediaType) -> None:
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = NAME
    options: dict[str, object] = {"exif": exif, "icc_profile": NAME.encode()}
    if media_type is MediaType.JPEG:
        options["comment"] = NAME.encode()
    if media_type is MediaType.PNG:
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", NAME)
        options["pnginfo"] = text
    source = picture(Image.new("RGB", (30, 20), "red"), media_type, **options)
    assert NAME.encode() in source.data
    preview = preview_of(source)
    assert preview is not None
    assert NAME.encode() not in preview.data
    assert opened(preview).getexif() == {}


def test_what_cannot_be_decoded_here_has_no_preview() -> None:
    assert preview_of(Picture("a", MediaType.PNG, b"\x89PNG\r\n\x1a\n")) is None
