"""Formats of files by their first bytes: those that the enclave decodes, and others by name."""

from __future__ import annotations

import codecs
import re
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
_RAW = OtherFormat(
    "a camera's raw file", "save its picture as JPEG: the camera's program can, or exiftool -b -JpgFromRaw"
)
COPIED_AS_TEXT = OtherFormat(
    "a picture that a program copied as text, which damaged it", "fetch it again, in binary mode"
)
_ARCHIVE = OtherFormat("an archive", "unpack it, and name the folder")
_FILM = OtherFormat("a film", "save the frame that you mean as PNG: ffmpeg -i FILE -frames:v 1 picture.png")
_PNM = OtherFormat("a PNM picture", _CONVERT)
_SVG = OtherFormat("an SVG", _CONVERT)
_ZEROS = OtherFormat("zero bytes only", "its content was lost in copying; fetch it again")
_READ_IT = "the download may have brought a message in place of the picture; read it to see why"
_TEXT = OtherFormat("text", _READ_IT)

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
    b"FUJIFILMCCD-RAW": _RAW,
    b"IIRO": _RAW,  # Olympus
    b"IIRS": _RAW,
    b"MMOR": _RAW,
    b"IIU\0": _RAW,  # Panasonic
    b"FOVb": _RAW,  # Sigma
    b"II*\0\x10\0\0\0CR": _RAW,  # Canon; a TIFF but for what is at byte 8
    # JPEG and PNG as UTF-8, as UTF-8 with replacement characters, and with other line ends.
    b"\xc3\xbf\xc3\x98\xc3\xbf": COPIED_AS_TEXT,
    b"\xc2\x89PNG": COPIED_AS_TEXT,
    b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd": COPIED_AS_TEXT,
    b"\xef\xbf\xbdPNG": COPIED_AS_TEXT,
    b"\x89PNG\n": COPIED_AS_TEXT,
    b"\x89PNG\r\r\n": COPIED_AS_TEXT,
    b"\0\5\x16\7": OtherFormat(
        "macOS metadata (AppleDouble)", "name the picture beside it: the same name without ._"
    ),
    b"7z\xbc\xaf\x27\x1c": _ARCHIVE,
    b"Rar!": _ARCHIVE,
    b"\x1aE\xdf\xa3": _FILM,  # Matroska, WebM
    b"\x76\x2f\x31\1": OtherFormat("an OpenEXR picture", _CONVERT),
    b"#?RADIANCE": OtherFormat("a Radiance HDR picture", _CONVERT),
    b"qoif": OtherFormat("a QOI picture", _CONVERT),
    b"\0\0\1\0": OtherFormat("an icon", _CONVERT),
    b"gimp xcf": OtherFormat("a GIMP file", _CONVERT),
    b"DDS ": OtherFormat("a DirectDraw surface", _CONVERT),
    b"NRRD000": OtherFormat("an NRRD volume", "save the slice that you mean as PNG; 3D Slicer can"),
    b"MATLAB": OtherFormat("a MATLAB file", "save the picture in it as PNG: imwrite(A, 'picture.png')"),
    b"ZISRAWFILE": OtherFormat(
        "a slide of Zeiss (CZI)", "save the region that you mean as PNG; ZEN and QuPath can"
    ),
    # DICOM without preamble: the first element, of group 2 or 8. DICOM PS3.5, section 7.1.
    **{b"\x02\0%c\0" % element: _DICOM for element in (0x00, 0x01, 0x02, 0x10)},
    **{b"\x08\0%c\0" % element: _DICOM for element in (0x00, 0x01, 0x05, 0x08, 0x16, 0x18)},
    b"%PDF": OtherFormat("a PDF", "save the picture in it as PNG: pdfimages -png FILE picture (Poppler)"),
    b"%!PS": OtherFormat("a PostScript file", _CONVERT),
    b"8BPS": OtherFormat("a Photoshop document", _CONVERT),
    **{b"P%d%c" % (kind, blank): _PNM for kind in range(1, 8) for blank in b"\n\r\t "},
    b"<?xml": OtherFormat("XML", _READ_IT),
    b"{": OtherFormat("JSON text", _READ_IT),
    b"PK\x03\x04": OtherFormat("a ZIP archive", "unpack it, and name the folder"),
}
# ISO base media files say in their brand what is in them: ISO/IEC 23008-12 and the AVIF specification.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), _HEIC),
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
    b"crx ": _RAW,  # Canon's CR3
}
# Twenty such pairs of 256 values are no chance.
_MIN_LINE_ENDS = 20
_BARE_LINE_END = re.compile(rb"(?<!\r)\n")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
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
    if data.startswith((b"II*\0", b"MM\0*")) and data[8:10] != b"CR":
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
        (_is_svg, _SVG),
        (lambda head: head.startswith(b"RIFF") and head[8:11] == b"AVI", _FILM),
        (lambda head: not head.strip(b"\0"), _ZEROS),
    )
    for is_it, found in tests:
        if is_it(data):
            return found
    known = next((found for magic, found in _MAGIC.items() if data.startswith(magic)), None)
    return known or (_TEXT if _is_text(data) else _UNKNOWN)


def was_copied_as_text(data: bytes) -> bool:
    """Return whether a program wrote each line end of binary data as CR LF, as FTP does in its text mode."""
    # A picture has one LF in 256 bytes, and one in 256 of these behind a CR: the search ends at once.
    return _BARE_LINE_END.search(data) is None and data.count(b"\r\n") >= _MIN_LINE_ENDS


def _is_nifti(data: bytes) -> bool:
    # The magic ends the header of 348 bytes; volumes are mostly compressed: NIfTI-1.1.
    if data.startswith(b"\x1f\x8b"):
        try:
            data = zlib.decompressobj(31).decompress(data[:4096], 348)
        except zlib.error:
            return False
    return data[344:348] in {b"n+1\0", b"ni1\0"}


def _is_web_page(data: bytes) -> bool:
    return _text_head(data).lower().startswith(("<!doctype html", "<html", "<head"))


def _is_svg(data: bytes) -> bool:
    head = _text_head(data)
    return head.startswith("<") and "<svg" in head


def _is_text(data: bytes) -> bool:
    head = _text_head(data)
    return bool(head) and "\ufffd" not in head and not _CONTROL.search(head)


def _text_head(data: bytes) -> str:
    """Return the first characters behind blanks; with replacement characters where the data is no text."""
    is_wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    # Not more than the first bytes, of which the last character may be cut.
    text = codecs.getincrementaldecoder("utf-16" if is_wide else "utf-8")("replace").decode(data[:1024])
    return text.lstrip("\ufeff \t\r\n")
