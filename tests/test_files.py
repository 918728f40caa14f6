import hashlib
import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from enclavectl.cli.output_files import require_distinct
from enclavectl.eif.file_range import FileRange
from enclavectl.errors import HostError, UsageError, visible
from enclavectl.files import (
    make_private_dir,
    read_bounded,
    read_chunks,
    require_private_dir,
    sha256_of,
    stage_file,
    write_atomic,
)

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_write_atomic_writes_all_with_the_mode_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_atomic(path, b"one" * 100_000)
    assert path.read_bytes() == b"one" * 100_000
    assert mode_of(path) == 0o600
    write_atomic(path, b"two", mode=0o644)
    assert path.read_bytes() == b"two"
    assert mode_of(path) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomic_replaces_a_link_and_spares_its_target(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"keep")
    (tmp_path / "link").symlink_to(target)
    write_atomic(tmp_path / "link", b"new")
    assert target.read_bytes() == b"keep"
    assert not (tmp_path / "link").is_symlink()


def test_write_atomic_that_fails_keeps_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    with pytest.raises(HostError, match="folder: cannot write"):
        write_atomic(folder, b"a file cannot replace a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(HostError, match="absent: cannot create a file"):
        write_atomic(tmp_path / "absent" / "file", b"")


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="a FIFO"):
        write_atomic(tmp_path / "fifo", b"")
    assert [path.is_fifo() for path in tmp_path.iterdir()] == [True]


def test_a_staged_file_vanishes_unless_committed(tmp_path: Path) -> None:
    with stage_file(tmp_path) as staged:
        staged.file.write(b"half")
        assert list(tmp_path.iterdir()) == [staged.path]
    assert list(tmp_path.iterdir()) == []


def test_a_staged_file_vanishes_with_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with stage_file(tmp_path) as staged:
            staged.file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_that_comes_as_the_file_appears_leaves_none(tmp_path: Path) -> None:
    def interrupt(_frame: FrameType, event: str, function: object) -> None:
        if event == "c_return" and function is os.open:
            assert len(list(tmp_path.iterdir())) == 1
            raise KeyboardInterrupt

    before = sys.getprofile()
    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), stage_file(tmp_path):
            pass
    finally:
        sys.setprofile(before)
    assert list(tmp_path.iterdir()) == []


def test_write_atomic_shows_readers_old_or_new_but_never_a_mix(tmp_path: Path) -> None:
    path = tmp_path / "record"
    contents = [bytes([value]) * 50_000 for value in (1, 2)]
    write_atomic(path, contents[0])
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(50):
        write_atomic(path, contents[turn % 2])
    done.set()
    reader.join()
    assert seen
    assert seen <= set(contents)


def test_read_bounded_takes_the_limit_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(UsageError, match="at most 4 bytes, found more"):
        read_bounded(path, 4)


def test_read_bounded_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match=r"expected a file \(model card\), found a FIFO"):
        read_bounded(tmp_path / "fifo", 5, what="model card")  # and does not wait for a writer
    with pytest.raises(UsageError, match="found a folder"):
        read_bounded(tmp_path, 5)
    with pytest.raises(UsageError, match="no such file"):
        read_bounded(tmp_path / "absent", 5)
    with pytest.raises(UsageError, match="cannot read this file"):
        read_bounded(tmp_path / "a\0b", 5)
    with pytest.raises(UsageError, match="found a device"):
        read_bounded(Path("/dev/null"), 5)


def test_make_private_dir_makes_every_level_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    make_private_dir(path)
    make_private_dir(path)
    assert mode_of(path) == mode_of(path.parent) == 0o700


@pytest.mark.parametrize("mode", [0o710, 0o720, 0o740, 0o701, 0o702, 0o704, 0o755, 0o770])
@pytest.mark.parametrize("check", [make_private_dir, require_private_dir])
def test_a_folder_that_others_may_use_is_refused_and_not_changed(
    check: Callable[[Path], object], mode: int, tmp_path: Path
) -> None:
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(HostError, match=rf"mode 0700\), found mode {mode:04o}") as caught:
        check(path)
    assert caught.value.hint is not None
    assert "chmod 700" in caught.value.hint
    assert mode_of(path) == mode


def test_make_private_dir_makes_nothing_where_others_could_replace_it(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(HostError, match="nobody else may change"):
        make_private_dir(tmp_path / "open" / "state" / "local")
    assert not (tmp_path / "open" / "state").exists()
    (tmp_path / "link").symlink_to("open")
    with pytest.raises(HostError, match="nobody else may change"):
        make_private_dir(tmp_path / "link" / "state")
    assert not (tmp_path / "open" / "state").exists()


def test_make_private_dir_refuses_links_and_files(tmp_path: Path) -> None:
    make_private_dir(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(HostError, match="found a symbolic link"):
        make_private_dir(tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(HostError, match="cannot make this folder"):
        make_private_dir(tmp_path / "dangling")
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="expected a folder, found a file"):
        make_private_dir(tmp_path / "file")
    with pytest.raises(HostError, match="cannot make this folder"):
        make_private_dir(tmp_path / "file" / "below")


@AS_ROOT
def test_make_private_dir_refuses_somebody_elses_folder(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 12345)
    with pytest.raises(HostError, match="expected a folder of user 0, found one of user 12345"):
        make_private_dir(path)


def test_a_folder_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    assert require_private_dir(tmp_path / "absent" / "below") is False
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot be read"):
        require_private_dir(tmp_path / "file" / "below")
    (tmp_path / "there").mkdir(mode=0o700)
    assert require_private_dir(tmp_path / "there") is True


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o703, 0o772])
def test_a_folder_below_one_that_others_may_change_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever may write to a folder can rename what is in it, and put something else there."""
    outer = tmp_path / "outer"
    make_private_dir(outer / "middle" / "inner")
    outer.chmod(mode)
    with pytest.raises(HostError, match=f"outer with mode 0{mode:o}") as caught:
        require_private_dir(outer / "middle" / "inner")
    assert "ENCLAVECTL_STATE_DIR" in str(caught.value.hint)
    outer.chmod(mode | stat.S_ISVTX)  # as /tmp has it
    assert require_private_dir(outer / "middle" / "inner")


def test_a_link_is_followed_to_where_it_leads(tmp_path: Path) -> None:
    make_private_dir(tmp_path / "open" / "real" / "inner")
    (tmp_path / "link").symlink_to(tmp_path / "open" / "real")
    assert require_private_dir(tmp_path / "link" / "inner")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(HostError, match="open with mode 0777"):
        require_private_dir(tmp_path / "link" / "inner")


@AS_ROOT
@pytest.mark.parametrize("given", ["outer", "outer/middle", "outer/middle/inner", "link"])
def test_a_folder_in_one_of_another_user_is_refused(tmp_path: Path, given: str) -> None:
    make_private_dir(tmp_path / "outer" / "middle" / "inner")
    (tmp_path / "link").symlink_to(tmp_path / "outer")
    assert require_private_dir(tmp_path / "link" / "middle" / "inner")
    os.chown(tmp_path / given, 1000, 1000, follow_symlinks=False)
    with pytest.raises(HostError, match="of user 1000"):
        require_private_dir(tmp_path / "link" / "middle" / "inner")


@AS_ROOT
def test_a_group_of_its_owner_alone_may_write(tmp_path: Path) -> None:
    """Distributions with a group for each user have umask 0002; a group with others in it is refused."""
    make_private_dir(tmp_path / "outer" / "inner")
    (tmp_path / "outer").chmod(0o770)
    assert require_private_dir(tmp_path / "outer" / "inner")  # root:root
    os.chown(tmp_path / "outer", 0, 65534)
    with pytest.raises(HostError, match="outer with mode 0770"):
        require_private_dir(tmp_path / "outer" / "inner")


def test_the_hash_of_a_file_and_of_a_range_of_it_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        assert sha256_of(read_chunks(file)) == hashlib.sha256(data).hexdigest()
        part = FileRange(file=file, offset=5, size=1 << 20)
        assert part.sha256() == hashlib.sha256(data[5 : 5 + (1 << 20)]).hexdigest()
    assert sha256_of([]) == hashlib.sha256().hexdigest()


def test_text_of_others_is_shown_without_what_commands_a_terminal_or_turns_it_around() -> None:
    assert visible("plain é 猫") == "plain é 猫"
    assert visible("\x1b[31m\n\x9b\u202e\udcff") == "\\x1b[31m\\n\\x9b\\u202e\\udcff"


def test_two_outputs_are_two_files_by_whatever_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    require_distinct([("--to", tmp_path / "a"), ("--lock", tmp_path / "b"), ("--to", tmp_path / "a")])
    for other in (tmp_path / "a", tmp_path / "x" / ".." / "a", tmp_path / "link" / "a"):
        with pytest.raises(UsageError, match="--to and --lock: expected two files"):
            require_distinct([("--to", tmp_path / "a"), ("--lock", other)])
