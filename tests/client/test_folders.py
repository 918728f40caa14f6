"""Which pictures the names on a command line mean, and what is said of the rest."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from enclavectl.client.folders import LeftOut, collect
from enclavectl.errors import UsageError

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"x")


def test_names_keep_their_order_and_folders_are_opened_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    touch(folder, "b.PNG", "a.jpg", "notes.txt", "c.tiff", ".png")
    (folder / "sub.png").mkdir()
    touch(tmp_path, "z.jpg")
    names = collect([str(tmp_path / "z.jpg"), "-", str(folder), str(tmp_path / "z.jpg")]).names
    inside = [str(folder / name) for name in ("a.jpg", "b.PNG", "c.tiff")]
    assert names == (str(tmp_path / "z.jpg"), "-", *inside, str(tmp_path / "z.jpg"))


def test_a_file_that_is_called_minus_can_be_named(tmp_path: Path) -> None:
    touch(tmp_path, "-")
    assert collect([f"{tmp_path}/-"]).names == (f"{tmp_path}/-",)


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


def mixed(folder: Path) -> Path:
    """What people's folders of pictures have in them."""
    (folder / "sub" / "deeper").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    touch(folder, "a.jpg", "b.jfif", "c.JPE", "e.HEIC", "f.dcm", "g.dcm", "h.DIB", "notes", ".DS_Store")
    (folder / "d").write_bytes(PNG_HEAD + bytes(40))
    touch(folder / "sub", "y.png", "x.tif", "z.dcm")
    touch(folder / "sub" / "deeper", "w.webp")
    (folder / "linked").symlink_to(folder / "sub")
    (folder / "loop").symlink_to(folder / "loop")
    return folder


def test_a_folder_gives_what_can_be_read_and_counts_the_rest(tmp_path: Path) -> None:
    found = collect([str(mixed(tmp_path))])
    assert [Path(name).name for name in found.names] == ["a.jpg", "b.jfif", "c.JPE", "d", "h.DIB"]
    (others,) = found.left_out
    assert others == LeftOut(
        folder=str(tmp_path), files=Counter({".heic": 1, ".dcm": 2, "": 2}), subfolders=2, hidden=2
    )
    assert others.words() == "5 files (2 without an ending, 2 .dcm, 1 .heic) and 2 subfolders"
    assert others.to_json() == {
        "folder": str(tmp_path),
        "files": {"": 2, ".dcm": 2, ".heic": 1},
        "subfolders": 2,
        "hidden": 2,
    }


def test_recursive_takes_subfolders_as_well_and_follows_no_links(tmp_path: Path) -> None:
    found = collect([str(mixed(tmp_path))], recursive=True)
    names = [str(Path(name).relative_to(tmp_path)) for name in found.names]
    below = ["sub/x.tif", "sub/y.png", "sub/deeper/w.webp"]
    assert names == ["a.jpg", "b.jfif", "c.JPE", "d", "h.DIB", *below]
    assert found.left_out[0].files == {".heic": 1, ".dcm": 3, "": 2}
    assert found.left_out[0].subfolders == 1


def test_a_folder_that_has_pictures_only_leaves_nothing_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", ".DS_Store")
    (others,) = collect([str(tmp_path)]).left_out
    assert not others
    assert collect([str(tmp_path / "a.jpg")]).left_out == ()


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_without_pictures_says_what_is_there(tmp_path: Path, recursive: bool) -> None:
    touch(tmp_path, "a.heic", "b.dcm")
    (tmp_path / "sub").mkdir()
    with pytest.raises(UsageError, match=r"found none, only 2 files \(1 .dcm, 1 .heic\)") as info:
        collect([str(tmp_path)], recursive=recursive)
    assert info.value.hint is not None
    assert ("--recursive" in info.value.hint) is not recursive
