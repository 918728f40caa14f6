"""What a file is named that is no picture for the enclave, and what to do with it."""

from __future__ import annotations

import base64
import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from enclave_payload.media import MediaType
from enclavectl.client.formats import media_type_of, other_format_of
from enclavectl.client.pictures import read_picture
from enclavectl.errors import PictureRefused

HEADS = (b"\xff\xd8\xff\xe0" + bytes(20), b"\x89PNG\r\n\x1a\n" + bytes(20), b"RIFF" + bytes(20))


def test_big_endian_tiff_is_known() -> None:
    assert media_type_of(b"MM\0*" + bytes(8)) is MediaType.TIFF


@pytest.mark.parametrize(
    ("data", "found", "hint"),
    [
        (b"GIF89a", "a GIF", "PNG"),
        (b"%PDF-1.7", "a PDF", "pdfimages"),
        (b"PK\x03\x04", "a ZIP archive", "unpack"),
        (b"<?xml version='1.0'?>", "XML", "message"),
        (bytes(128) + b"DICM" + bytes(40), "a DICOM file", "dcmj2pnm"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "a JPEG 2000 picture", "opj_decompress"),
        (b"\xff\x4f\xff\x51" + bytes(40), "a JPEG 2000 picture", "opj_decompress"),
        (b"\xff\x0a" + bytes(40), "a JPEG XL picture", "djxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "a JPEG XL picture", "djxl"),
        (b"II+\0\x08\0\0\0", "a BigTIFF, as scanners of whole slides write", "region"),
        (b"MM\0+\0\x08\0\0", "a BigTIFF, as scanners of whole slides write", "region"),
        (b"\x93NUMPY\x01\0", "a NumPy array", "fromarray"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "PNG"),
        (bytes(344) + b"n+1\0", "a NIfTI volume", "slice"),
        (gzip.compress(bytes(344) + b"n+1\0" + bytes(999)), "a NIfTI volume", "slice"),
        (gzip.compress(b"anything"), "gzip-compressed data", "gunzip"),
        (b"\x1f\x8b\x08\0" + bytes(64), "gzip-compressed data", "gunzip"),
        (b"<!DOCTYPE html><html><title>403</title>", "a web page", "browser"),
        (b"\xef\xbb\xbf\r\n <HTML>", "a web page", "browser"),
        (b'{"error": "forbidden"}', "JSON text", "message"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer", "git lfs pull"),
        (b"data:image/jpeg;base64,/9j/4AAQSkZJRg==\n", "a picture as base64 text", "base64 -d"),
        *((base64.b64encode(head), "a picture as base64 text", "base64 -d") for head in HEADS),
        (b"\0\0\0\x18ftypheic", "a HEIC picture", "heif-convert"),
        (b"\0\0\0\x18ftypmif1", "a HEIC picture", "heif-convert"),
        (b"\0\0\0\x1cftypavif", "an AVIF picture", "avifdec"),
        (b"\0\0\0\x1cftypisom", "a film", "ffmpeg"),
        (b"RIFF\0\0\0\0WAVE", "none of them", "convert"),
        (b"B\0", "none of them", "convert"),
        (b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code>", "XML", "message"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'>", "an SVG", "convert"),
        (b"<svg xmlns='x'>", "an SVG", "convert"),
        (b"Not found\r\n", "text", "message"),
        ("\N{BYTE ORDER MARK}<html>".encode("utf-16"), "a web page", "browser"),
        ("Zugriff verweigert: \N{LATIN SMALL LETTER U WITH DIAERESIS}".encode(), "text", "message"),
        (bytes(5000), "zero bytes only", "again"),
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100", "a DICOM file", "dcmj2pnm"),
        (b"\x08\0\0\0\4\0\0\0\xce\0", "a DICOM file", "dcmj2pnm"),
        (b"\x02\0\0\0UL\4\0", "a DICOM file", "dcmj2pnm"),
        (b"II*\0\x10\0\0\0CR\2\0", "a camera's raw file", "exiftool"),
        (b"\0\0\0\x18ftypcrx ", "a camera's raw file", "exiftool"),
        (b"FUJIFILMCCD-RAW 0201", "a camera's raw file", "exiftool"),
        (b"IIU\0\x18\0\0\0", "a camera's raw file", "exiftool"),
        (b"IIRO\x08\0\0\0", "a camera's raw file", "exiftool"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "macOS metadata", "beside"),
        (b"Rar!\x1a\7\0", "an archive", "unpack"),
        (b"7z\xbc\xaf\x27\x1c\0", "an archive", "unpack"),
        (b"RIFF\x10\0\0\0AVI LIST", "a film", "ffmpeg"),
        (b"\x1aE\xdf\xa3\x01", "a film", "ffmpeg"),
        (b"P4\n9 9\n", "a PNM picture", "convert"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file", "imwrite"),
        (b"NRRD0004\n", "an NRRD volume", "slice"),
        (b"\xff\xd8", "none of them", "convert"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, data: bytes, found: str, hint: str) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(PictureRefused, match=f"expected JPEG, PNG, WebP, BMP or TIFF, found {found}") as info:
        read_picture(str(tmp_path / "a.png"), sys.stdin.buffer.read)
    assert info.value.code == "unsupported-format"
    assert hint in str(info.value.hint)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    "mangle",
    [
        lambda data: data.decode("latin-1").encode(),
        lambda data: data.decode("utf-8", "replace").encode(),
        lambda data: data.replace(b"\n", b"\r\n"),
    ],
    ids=["utf-8", "replaced", "crlf"],
)
def test_a_picture_that_was_copied_as_text_is_told_as_that(
    tmp_path: Path, format_name: str, mangle: Callable[[bytes], bytes]
) -> None:
    """FTP in text mode, git with autocrlf, an editor, a string in a program. JPEG has no sign against it."""
    whole = io.BytesIO()
    Image.effect_noise((320, 240), 60).save(whole, format_name)
    path = tmp_path / "a.jpg"
    path.write_bytes(whole.getvalue())
    assert read_picture(str(path), sys.stdin.buffer.read).data == whole.getvalue()
    path.write_bytes(mangle(whole.getvalue()))
    with pytest.raises(PictureRefused, match="found a picture that a program copied as text") as info:
        read_picture(str(path), sys.stdin.buffer.read)
    assert "binary mode" in str(info.value.hint)


@given(st.binary(max_size=24))
def test_any_bytes_are_a_known_format_or_none(data: bytes) -> None:
    found = media_type_of(data)
    assert found is None or found in set(MediaType)
    assert other_format_of(data).hint


def test_a_compressed_volume_is_known_by_its_name_where_its_bytes_are_damaged() -> None:
    data = b"\x1f\x8b\x08\0" + bytes(64)
    assert other_format_of(data, "brain.NII.gz").name == "a NIfTI volume"
    assert other_format_of(data, "brain.gz").name == "gzip-compressed data"
