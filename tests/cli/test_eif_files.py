"""Which file ``enclavectl eif`` speaks of where there is no image, no sound one, or several."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.command import enclavectl
from tests.cli.images import eif, signing_files, write_image

ALL = ("show", "pcrs", "verify", "diff", "sign", "extract")


def arguments_of(command: str, folder: Path, file: Path) -> list[object]:
    """What makes a sound image of ``file`` pass, if it were one."""
    if command == "diff":
        return [write_image(folder / "sound.eif"), file]
    if command == "sign":
        return [file, *signing_files(folder), "--to", folder / "signed.eif"]
    return [file, "--to", folder / "parts"] if command == "extract" else [file]


@pytest.mark.parametrize("command", ALL)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("absent", "fifo", "."):
        done = eif(tmp_path, command, *arguments_of(command, tmp_path, tmp_path / name))
        assert done.status == 2
        assert done.error()["kind"] == "usage"
        assert done.err.count(str(tmp_path / name)) == 1


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("data", [b"", b"no image" * 100], ids=["empty", "other"])
def test_what_is_no_image_is_named_once(tmp_path: Path, command: str, data: bytes) -> None:
    (tmp_path / "none").write_bytes(data)
    arguments = arguments_of(command, tmp_path, tmp_path / "none")
    done = enclavectl("eif", command, *arguments, home=tmp_path)
    assert done.status == 2
    assert (done.out + done.err).count(str(tmp_path / "none")) == 1


@pytest.mark.parametrize("command", ["show", "pcrs"])
def test_of_several_files_each_bad_one_is_named_once(tmp_path: Path, command: str) -> None:
    bad = [tmp_path / name for name in ("absent", "damaged", "folder")]
    bad[1].write_bytes(b"no image" * 100)
    bad[2].mkdir()
    done = enclavectl("eif", command, *bad, home=tmp_path)
    assert done.status == 2
    assert [line.split(": ")[1] for line in done.err.splitlines()] == [str(path) for path in bad]
    assert [done.err.count(str(path)) for path in bad] == [1, 1, 1]


def test_of_two_images_that_are_compared_the_damaged_one_is_named(tmp_path: Path) -> None:
    sound, damaged = write_image(tmp_path / "a.eif"), tmp_path / "b.eif"
    damaged.write_bytes(sound.read_bytes()[:-1] + b"!")
    for pair in ([sound, damaged], [damaged, sound]):
        error = eif(tmp_path, "diff", *pair).error()
        assert error["code"] == "crc"
        assert str(error["message"]).startswith(f"{damaged}: ")


@pytest.mark.parametrize("command", ["show", "pcrs", "verify"])
def test_several_files_are_one_list_of_what_each_would_be_alone(command: str, tmp_path: Path) -> None:
    first, second = write_image(tmp_path / "a.eif"), tmp_path / "b.eif"
    assert eif(tmp_path, "sign", first, *signing_files(tmp_path), "--to", second).status == 0
    done = eif(tmp_path, command, first, second)
    assert done.status == 0
    alone = [{"file": str(path), **eif(tmp_path, command, path).json()} for path in (first, second)]
    assert done.json()["files"] == alone
    assert str(done.json()["schema"]).endswith("-files/1")


@pytest.mark.parametrize("command", ["show", "pcrs", "verify"])
def test_of_several_files_the_worst_decides_and_the_others_are_still_answered(
    command: str, tmp_path: Path
) -> None:
    good, broken = write_image(tmp_path / "good.eif"), tmp_path / "broken.eif"
    broken.write_bytes(good.read_bytes()[:-1] + b"!")
    done = eif(tmp_path, command, broken, tmp_path / "absent.eif", good)
    assert done.status == 2
    files = done.json()["files"]
    assert isinstance(files, list)
    assert [one["file"] for one in files] == [str(broken), str(tmp_path / "absent.eif"), str(good)]
    assert files[1]["error"]["kind"] == "usage"
    assert files[2] == {"file": str(good), **eif(tmp_path, command, good).json()}
    assert "no such image file" in done.err


def test_several_files_as_text_are_blocks_under_their_names(tmp_path: Path) -> None:
    first, second = write_image(tmp_path / "a.eif"), write_image(tmp_path / "b.eif")
    both = enclavectl("eif", "pcrs", first, second, home=tmp_path)
    alone = enclavectl("eif", "pcrs", first, home=tmp_path)
    assert both.out == f"{first}\n{alone.out}{second}\n{alone.out}"
