"""Formats of files by their first bytes: those that the enclave decodes, and others by name."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

from enclavectl.protocol.media import MediaType

_CONVERT = "convert the picture to JPEG or PNG"


class OtherFormat(NamedTuple):
    """A format that the enclave does not decode: its name in a sentence, and what to do with such a file."""

    name: str
    hint: str


_DICOM = OtherFormat("a DICOM file", "export the frame as PNG or JPEG: your viewer can, or dcmj2pnm of DCMTK")
_NIFTI = OtherFormat("a NIfTI volume", "save the slice that you mean as PNG; ITK-SNAP and 3D Slicer can")
_JPEG_2000 = OtherFormat(
    "a JPEG 2000 picture", "convert it to PNG: opj_decompress -i FILE -o picture.png (OpenJPEG)"
)
_JPEG_XL = OtherFormat("a JPEG XL picture", "convert it to PNG: djxl FILE picture.png (libjxl)")
_BIG_TIFF = OtherFormat(
    "a BigTIFF, as scanners of whole slides write",
    "save the region that you mean, of at most 50 megapixels, as PNG; QuPath and vips can",
)
_HEIC = OtherFormat(
    "a HEIC picture", "convert it to JPEG: heif-convert FILE picture.jpg, or the phone's or viewer's export"
)
_AVIF = OtherFormat("an AVIF picture", "convert it to PNG: avifdec FILE picture.png")
_WEB_PAGE = OtherFormat(
    "a web page", "the download brought a page in place of the picture; open it in a browser to see why"
)
_BASE64 = OtherFormat("a picture as base64 text", "decode the text behind the comma: base64 -d")
_GZIP = OtherFormat("gzip-compressed data", "unpack it first: gunzip")

# By the first bytes. https://www.iana.org/assignments/media-types has the formats' specifications.
_MAGIC: dict[bytes, OtherFormat] = {
    b"\0\0\0\x0cjP  \r\n\x87\n": _JPEG_2000,
    b"\xff\x4f\xff\x51": _JPEG_2000,
    b"\0\0\0\x0cJXL \r\n\x87\n": _JPEG_XL,
    b"\xff\x0a": _JPEG_XL,
    b"II+\0": _BIG_TIFF,
    b"MM\0+": _BIG_TIFF,
    b"\x93NUMPY": OtherFormat(
        "a NumPy array",
        "save it as PNG with 8 bits a channel: PIL.Image.fromarray(array).save('picture.png')",
    ),
    b"\x89HDF\r\n\x1a\n": OtherFormat("an HDF5 file", "save the picture in it as PNG, with 8 bits a channel"),
    b"version https://git-lfs.github.com/": OtherFormat(
        "a Git LFS pointer, which stands for the picture", "fetch the picture itself: git lfs pull"
    ),
    b"data:image/": _BASE64,
    # How base64 of a JPEG, a PNG and a WebP begins.
    b"/9j/": _BASE64,
    b"iVBORw0KGgo": _BASE64,
    b"UklGR": _BASE64,
    b"GIF8": OtherFormat("a GIF", "save the frame that you mean as PNG"),
    b"%PDF": OtherFormat("a PDF", "save the picture in it as PNG: pdfimages -png FILE picture (Poppler)"),
    b"%!PS": OtherFormat("a PostScript file", _CONVERT),
    b"8BPS": OtherFormat("a Photoshop document", _CONVERT),
    b"P5": OtherFormat("a PGM picture", _CONVERT),
    b"P6": OtherFormat("a PPM picture", _CONVERT),
    b"<svg": OtherFormat("an SVG", _CONVERT),
    b"<?xml": OtherFormat("XML", _CONVERT),
    b"PK\x03\x04": OtherFormat("a ZIP archive", "unpack it, and name the folder"),
    b"{": OtherFormat(
        "JSON text", "the download brought a message in place of the picture; read it to see why"
    ),
}
# ISO base media files say in their brand what is in them: ISO/IEC 23008-12 and the AVIF specification.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), _HEIC),
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
}
_FILM = OtherFormat("a film", "save the frame that you mean as PNG: ffmpeg -i FILE -frames:v 1 picture.png")
_UNKNOWN = OtherFormat("none of them", _CONVERT)


def media_type_of(data: bytes) -> MediaType | None:
    """Detect the format by the first bytes; None if the enclave does not decode it."""
    if data.startswith(b"\xff\xd8\xff"):
        return MediaType.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return MediaType.PNG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return MediaType.WEBP
    if data.startswith(b"BM"):
        return MediaType.BMP
    if data.startswith((b"II*\0", b"MM\0*")):
        return MediaType.TIFF
    return None


def other_format_of(data: bytes, name: str = "") -> OtherFormat:
    """Guess the format of data that the enclave does not decode; ``name`` helps with compressed data."""
    if data[128:132] == b"DICM":  # behind a preamble that may be anything: DICOM PS3.10, section 7.1
        return _DICOM
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], _FILM)
    if name.lower().endswith(".nii.gz"):
        return _NIFTI
    tests: tuple[tuple[Callable[[bytes], bool], OtherFormat], ...] = (
        (_is_nifti, _NIFTI),
        (lambda head: head.startswith(b"\x1f\x8b"), _GZIP),
        (_is_web_page, _WEB_PAGE),
    )
    for is_it, found in tests:
        if is_it(data):
            return found
    return next((found for magic, found in _MAGIC.items() if data.startswith(magic)), _UNKNOWN)


def _is_nifti(data: bytes) -> bool:
    # The magic ends the header of 348 bytes; volumes are mostly compressed: NIfTI-1.1.
    if data.startswith(b"\x1f\x8b"):
        try:
            data = zlib.decompressobj(31).decompress(data[:4096], 348)
        except zlib.error:
            return False
    return data[344:348] in {b"n+1\0", b"ni1\0"}


def _is_web_page(data: bytes) -> bool:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head"))
