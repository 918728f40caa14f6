from __future__ import annotations

import gc
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from enclave_payload.media import MAX_PICTURE_BYTES, MediaType
from enclavectl.client.folders import collect
from enclavectl.client.pictures import Picture, read_picture
from enclavectl.errors import PictureRefused


def no_stdin(_limit: int) -> bytes:
    raise AssertionError("standard input was not named")


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
        gc.collect()  # a file that an earlier test left would close in between
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
    (found,) = collect([str(tmp_path)]).names
    assert read_picture(found, no_stdin).name == found


def test_a_picture_shows_no_bytes() -> None:
    assert repr(Picture("a.png", MediaType.PNG, b"secret")) == "Picture('a.png', image/png, 6 bytes)"
