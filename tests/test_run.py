"""Following a process line by line."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from enclavectl.errors import HostError
from enclavectl.run import MAX_CAPTURED_BYTES, Command, capture, follow


def shell(script: str) -> Command:
    return Command(argv=["/bin/sh", "-c", script], cwd=Path("/"))


def test_lines_of_both_outputs_come_as_they_are_written() -> None:
    lines: list[str] = []
    assert follow(shell("echo one; echo two >&2; printf 'a\\377b'; exit 3"), on_line=lines.append) == 3
    assert lines == ["one", "two", "a\ufffdb"]


def test_a_line_without_an_end_comes_in_pieces() -> None:
    lines: list[str] = []
    assert follow(shell("head -c 200000 /dev/zero | tr '\\0' x"), on_line=lines.append) == 0
    assert [len(line) for line in lines] == [65536, 65536, 65536, 200000 - 3 * 65536]


def test_an_open_file_can_be_its_input(tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "in").write_bytes(b"a\nb\n")
    with (tmp_path / "in").open("rb") as source:
        assert follow(shell("cat"), on_line=lines.append, source=source) == 0
    assert lines == ["a", "b"]


def test_an_interrupted_process_may_take_back_what_it_began(tmp_path: Path) -> None:
    script = f"trap 'echo undone >{tmp_path}/undone; exit 1' INT; echo ready; while :; do sleep 0.1; done"

    def interrupt(line: str) -> None:
        assert line == "ready"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(shell(script), on_line=interrupt)
    assert (tmp_path / "undone").read_text() == "undone\n"


def test_what_cannot_be_started_is_named() -> None:
    with pytest.raises(HostError, match="/nowhere/docker: cannot be started"):
        follow(Command(argv=["/nowhere/docker"], cwd=Path("/")), on_line=print)


def test_both_outputs_are_captured_apart() -> None:
    done = capture(shell("echo one; echo two >&2; head -c 300000 /dev/zero; exit 3"), timeout_s=30)
    assert (done.status, done.out, done.err) == (3, b"one\n" + bytes(300_000), b"two\n")


def test_who_writes_without_end_is_killed() -> None:
    with pytest.raises(HostError, match=f"at most {MAX_CAPTURED_BYTES} bytes of output, found more"):
        capture(shell("exec cat /dev/zero"), timeout_s=300)


@pytest.mark.parametrize("script", ["exec sleep 300", "exec >&- 2>&-; exec sleep 300", "exec yes >/dev/null"])
def test_who_does_not_end_in_time_is_killed(script: str) -> None:
    with pytest.raises(HostError, match=r"did not end within 0\.3 s"):
        capture(shell(script), timeout_s=0.3)


def test_a_child_that_keeps_the_outputs_open_delays_nothing() -> None:
    done = capture(shell("sleep 300 & echo $!"), timeout_s=200)
    os.kill(int(done.out), signal.SIGKILL)
    assert done.status == 0
