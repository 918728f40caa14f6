"""What a file is named that is no picture for the enclave, and what to do with it."""

from __future__ import annotations

import base64
import gzip
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        (b"<?xml version='1.0'?>", "XML", "convert"),
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
        (b"B", "none of them", "convert"),
        (b"\xff\xd8", "none of them", "convert"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, data: bytes, found: str, hint: str) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(PictureRefused, match=f"expected JPEG, PNG, WebP, BMP or TIFF, found {found}") as info:
        read_picture(str(tmp_path / "a.png"), sys.stdin.buffer.read)
    assert info.value.code == "unsupported-format"
    assert hint in str(info.value.hint)


@given(st.binary(max_size=24))
def test_any_bytes_are_a_known_format_or_none(data: bytes) -> None:
    found = media_type_of(data)
    assert found is None or found in set(MediaType)
    assert other_format_of(data).hint


def test_a_compressed_volume_is_known_by_its_name_where_its_bytes_are_damaged() -> None:
    data = b"\x1f\x8b\x08\0" + bytes(64)
    assert other_format_of(data, "brain.NII.gz").name == "a NIfTI volume"
    assert other_format_of(data, "brain.gz").name == "gzip-compressed data"
