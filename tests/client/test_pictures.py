from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from enclave_payload.media import MAX_PICTURE_BYTES, MediaType
from enclavectl.client.pictures import Picture, collect, media_type_of, read_picture
from enclavectl.errors import PictureRefused, UsageError


def no_stdin(_limit: int) -> bytes:
    raise AssertionError("standard input was not named")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"x")


def test_names_keep_their_order_and_folders_are_opened_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    touch(folder, "b.PNG", "a.jpg", "notes.txt", "c.tiff", ".png")
    (folder / "sub.png").mkdir()
    touch(tmp_path, "z.jpg")
    names = collect([str(tmp_path / "z.jpg"), "-", str(folder), str(tmp_path / "z.jpg")])
    inside = [str(folder / name) for name in ("a.jpg", "b.PNG", "c.tiff")]
    assert names == [str(tmp_path / "z.jpg"), "-", *inside, str(tmp_path / "z.jpg")]


def test_a_file_that_is_called_minus_can_be_named(tmp_path: Path) -> None:
    touch(tmp_path, "-")
    assert collect([f"{tmp_path}/-"]) == [f"{tmp_path}/-"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "no such file or folder"),
        (["present/below"], "cannot be read"),
        (["x" * 5000], "too long"),
        (["nul\0byte"], "cannot be read"),
        (["-", "-"], "can be read only once"),
        (["empty"], "expected a folder with pictures, found none"),
    ],
)
def test_what_cannot_be_named(tmp_path: Path, arguments: list[str], message: str) -> None:
    touch(tmp_path, "present")
    (tmp_path / "empty").mkdir()
    places = [one if one == "-" else str(tmp_path / one) for one in arguments]
    with pytest.raises(UsageError, match=message) as info:
        collect(places)
    assert len(info.value.message) < 400


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(UsageError, match="Permission denied"):
        collect([str(tmp_path / "closed")])
    with pytest.raises(UsageError, match="Permission denied"):
        collect([str(tmp_path / "closed" / "a.png")])


def encoded(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("JPEG", MediaType.JPEG),
        ("PNG", MediaType.PNG),
        ("WEBP", MediaType.WEBP),
        ("BMP", MediaType.BMP),
        ("TIFF", MediaType.TIFF),
    ],
)
def test_the_format_is_known_by_its_bytes_whatever_the_name(
    tmp_path: Path, kind: str, media_type: MediaType
) -> None:
    data = encoded(kind)
    path = tmp_path / "picture.gif"
    path.write_bytes(data)
    assert read_picture(str(path), no_stdin) == Picture(str(path), media_type, data)


def test_big_endian_tiff_is_known() -> None:
    assert media_type_of(b"MM\0*" + bytes(8)) is MediaType.TIFF


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (encoded("GIF"), "a GIF"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"<?xml version='1.0'?>", "XML"),
        (b"\0\0\0\x18ftypheic", "HEIC, AVIF or a film"),
        (b"RIFF\0\0\0\0WAVE", "none of them"),
        (b"B", "none of them"),
        (b"\xff\xd8", "none of them"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, data: bytes, found: str) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(
        PictureRefused, match=f"expected JPEG, PNG, WebP, BMP or TIFF, found {found}$"
    ) as info:
        read_picture(str(tmp_path / "a.png"), no_stdin)
    assert info.value.code == "unsupported-format"


@given(st.binary(max_size=24))
def test_any_bytes_are_a_known_format_or_none(data: bytes) -> None:
    found = media_type_of(data)
    assert found is None or found in set(MediaType)


@pytest.mark.parametrize(
    ("size", "code"), [(0, "empty"), (MAX_PICTURE_BYTES + 1, "too-large"), (MAX_PICTURE_BYTES, None)]
)
def test_the_size_is_bounded(tmp_path: Path, size: int, code: str | None) -> None:
    path = tmp_path / "a.png"
    head = encoded("PNG")[: min(size, 16)]
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    if code is None:
        assert len(read_picture(str(path), no_stdin).data) == size
        return
    with pytest.raises(PictureRefused) as info:
        read_picture(str(path), no_stdin)
    assert info.value.code == code


def test_standard_input_is_read_within_the_limit() -> None:
    data = encoded("PNG")
    asked: list[int] = []

    def read(limit: int) -> bytes:
        asked.append(limit)
        return data

    assert read_picture("-", read) == Picture("-", MediaType.PNG, data)
    assert asked == [MAX_PICTURE_BYTES + 1]
    with pytest.raises(PictureRefused, match="-: expected a picture, found an empty file"):
        read_picture("-", lambda _limit: b"")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_no_file_is_refused_without_waiting_and_without_leaking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "fifo").open("r+b", buffering=0) as writer:
        writer.write(encoded("PNG")[:20])  # half a picture waits in the pipe
        before = open_descriptors()
        for name in ("fifo", "folder"):
            with pytest.raises(PictureRefused, match="expected a file, found a folder, a pipe or") as info:
                read_picture(str(tmp_path / name), no_stdin)
            assert info.value.code == "unreadable-file"
        assert open_descriptors() == before
    with pytest.raises(PictureRefused, match="found a folder, a pipe or a device"):
        read_picture("/dev/zero", no_stdin)


@pytest.mark.parametrize("name", ["gone.png", "x" * 5000, "nul\0byte.png"])
def test_a_file_that_vanished_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PictureRefused, match="cannot be read") as info:
        read_picture(str(tmp_path / name), no_stdin)
    assert info.value.code == "unreadable-file"


@pytest.mark.parametrize(
    "name", ["new\nline.png", "esc\x1b[31m.png", "[bold]x[not bold].png", "\udcff.png", "-x.png"]
)
def test_hostile_names_are_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded("PNG"))
    (found,) = collect([str(tmp_path)])
    assert read_picture(found, no_stdin).name == found


def test_a_picture_shows_no_bytes() -> None:
    assert repr(Picture("a.png", MediaType.PNG, b"secret")) == "Picture('a.png', image/png, 6 bytes)"
