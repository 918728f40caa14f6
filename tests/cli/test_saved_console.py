"""``console --save`` on a disk that fills up while it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.cli.commands.console import copied, new_private_file
from enclavectl.errors import HostError, Interrupted
from tests.small_disk import small_disk

LINES = [b"first\n", b"x" * (1 << 17)]


def save(path: Path, *, keeps_part: bool) -> None:
    with new_private_file(path) as file:
        for _chunk in copied(iter(LINES), file, path, keeps_part=keeps_part):
            pass


def interrupted(path: Path, data: bytes) -> None:
    with new_private_file(path) as file:
        file.write(data)
        raise Interrupted("interrupted")


def test_a_console_that_does_not_fit_leaves_no_file_and_names_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        for _try in range(2):  # the first does not stand in the way of the second
            with pytest.raises(HostError, match=f"--save {disk / 'c'}: cannot be written .No space") as info:
                save(disk / "c", keeps_part=False)
            assert "df -h" in str(info.value.hint)
            assert list(disk.iterdir()) == []


def test_of_a_console_that_was_followed_stays_what_came_before_the_disk_was_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        with pytest.raises(HostError, match="cannot be written"):
            save(disk / "c", keeps_part=True)
        assert (disk / "c").read_bytes().startswith(b"first\nxxx")


def test_whatever_ends_it_an_empty_file_goes_and_another_stays(tmp_path: Path) -> None:
    for data in (b"", b"text"):
        path = tmp_path / "c"
        with pytest.raises(Interrupted):
            interrupted(path, data)
        assert path.exists() == bool(data)
