"""What really runs and replaces files, as root or through sudo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from enclavectl.errors import HostError
from enclavectl.host.changer import Action, LiveChanger


def fake_sudo(folder: Path) -> Path:
    program = folder / "bin" / "sudo"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {folder}/log\nshift; [ "$1" = -- ] && shift\nexec "$@"\n')
    program.chmod(0o755)
    return program.parent


def test_sudo_is_used_for_what_needs_it_and_never_waits_for_a_password(tmp_path: Path) -> None:
    environ = {"PATH": f"{fake_sudo(tmp_path)}:/usr/bin:/bin"}
    changer = LiveChanger(uid=1000, environ=environ, may_ask=False)
    changer.run(Action(argv=("touch", f"{tmp_path}/a")))
    changer.run(Action(argv=("touch", f"{tmp_path}/b"), as_root=False))
    LiveChanger(uid=0, environ=environ, may_ask=False).run(Action(argv=("touch", f"{tmp_path}/c")))
    logged = (tmp_path / "log").read_text().splitlines()
    assert len(logged) == 1
    assert logged[0].startswith("-n -- ")
    assert logged[0].endswith(f"touch {tmp_path}/a")
    assert all((tmp_path / name).exists() for name in "abc")


def test_a_failing_program_is_told_with_its_last_lines(tmp_path: Path) -> None:
    changer = LiveChanger(uid=0, environ={"PATH": "/usr/bin:/bin"}, may_ask=False)
    with pytest.raises(HostError, match=r"failed with status 3: one \| two") as caught:
        changer.run(Action(argv=("sh", "-c", "echo one; echo two >&2; exit 3")))
    assert caught.value.code == "step-failed"
    with pytest.raises(HostError, match="not installed"):
        changer.run(Action(argv=("no-such-program-anywhere",)))


def test_root_replaces_a_file_whole(tmp_path: Path) -> None:
    target = tmp_path / "allocator.yaml"
    target.write_text("old")
    LiveChanger(uid=0, environ={}, may_ask=False).replace(str(target), b"new", mode=0o640)
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    with pytest.raises(HostError):
        LiveChanger(uid=0, environ={}, may_ask=False).replace(f"{tmp_path}/none/x", b"", mode=0o644)


@pytest.mark.skipif(
    os.getuid() != 0, reason="a stand-in for sudo that gives its caller's rights needs root's"
)
def test_a_user_replaces_a_file_of_roots_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    target = folder / "allocator.yaml"
    target.write_text("old")
    environ = {"PATH": f"{fake_sudo(tmp_path)}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    changer = LiveChanger(uid=1000, environ=environ, may_ask=False)
    changer.replace(str(target), b"new", mode=0o640)
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    (folder / "folder").mkdir()
    with pytest.raises(HostError, match="mv -f -T"):
        changer.replace(f"{folder}/folder", b"new", mode=0o640)
    assert sorted(path.name for path in folder.iterdir()) == ["allocator.yaml", "folder"]
    assert not list(tmp_path.glob(".enclavectl-*"))
