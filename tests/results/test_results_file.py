"""A results file between runs: what is found, what is asked again, and what is never written over."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from enclave_payload.verdict import Problem
from enclavectl.client.pictures import Picture
from enclavectl.errors import HostError, PictureRefused, StateError, UsageError
from enclavectl.results.diagnosis import Result, refusal
from enclavectl.results.results_file import ResultsFile
from tests.in_process import gray
from tests.results.test_rows import ENCLAVE, OUTCOME

ENDINGS = pytest.mark.parametrize("ending", ["csv", "jsonl"])
FIRST, SECOND = gray(10), gray(20)
EMPTY = PictureRefused("c.png: empty", code="empty")


def answered(name: str, picture: Picture) -> Result:
    return Result(image=name, sha256=picture.sha256, outcome=OUTCOME)


@pytest.fixture
def path(tmp_path: Path, ending: str) -> Path:
    path = tmp_path / f"out.{ending}"
    with ResultsFile(path) as results:
        results.begin(ENCLAVE)
        results.add(answered("a.png", FIRST), ENCLAVE, top=None)
        error = refusal("b.png", Problem.UNREADABLE)
        results.add(Result(image="b.png", sha256=SECOND.sha256, error=error), ENCLAVE, top=None)
        results.add(Result(image="c.png", sha256=None, error=EMPTY), ENCLAVE, top=None)
    return path


@ENDINGS
def test_what_is_there_is_found_unless_it_has_changed(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    with ResultsFile(path) as results:
        assert results.has("a.png", FIRST)
        assert results.has("b.png", SECOND)
        assert results.has("c.png", EMPTY)
        assert (results.answered, results.refused) == (1, 2)
        assert not results.has("a.png", SECOND), "it has changed"
        assert not results.has("c.png", FIRST), "it can be read now"
        assert not results.has("a.png", EMPTY), "it cannot be read now"
        assert not results.has("d.png", FIRST), "it is new"


@ENDINGS
def test_refused_ones_are_asked_again_on_request(path: Path) -> None:
    with ResultsFile(path, retry_refused=True) as results:
        assert results.has("a.png", FIRST)
        assert not results.has("b.png", SECOND)
        assert not results.has("c.png", EMPTY)


@ENDINGS
def test_the_last_line_of_a_picture_counts(path: Path) -> None:
    with ResultsFile(path) as results:
        results.begin(ENCLAVE)
        results.add(answered("a.png", SECOND), ENCLAVE, top=None)
    with ResultsFile(path) as results:
        assert results.has("a.png", SECOND)
        assert not results.has("a.png", FIRST)


@ENDINGS
def test_a_line_that_was_cut_at_any_byte_is_removed_and_written_anew(path: Path) -> None:
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for size in range(start, len(whole)):
        path.write_bytes(whole[:size])
        with ResultsFile(path) as results:
            assert results.has("a.png", FIRST)
            assert not results.has("c.png", EMPTY)
            results.begin(ENCLAVE)
            results.add(Result(image="c.png", sha256=None, error=EMPTY), ENCLAVE, top=None)
        assert path.read_bytes() == whole


@ENDINGS
def test_a_first_line_that_was_cut_at_any_byte_is_written_anew(path: Path) -> None:
    whole = path.read_bytes()
    first = whole[: whole.index(b"\n") + 1]
    for size in range(len(first)):
        path.write_bytes(first[:size])
        with ResultsFile(path) as results:
            results.begin(ENCLAVE)
            results.add(answered("a.png", FIRST), ENCLAVE, top=None)
        assert path.read_bytes().startswith(first)


@ENDINGS
@pytest.mark.parametrize("text", ["notes", "notes\n", "image,sha\n1,2\n", "{}\n", "\n", "\0" * 100])
def test_another_programs_file_is_left_alone(tmp_path: Path, ending: str, text: str) -> None:
    path = tmp_path / f"out.{ending}"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        ResultsFile(path)
    assert caught.value.code == "results-foreign"
    assert path.read_text() == text


@ENDINGS
def test_a_foreign_line_in_the_middle_is_left_alone(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"a note\n", *lines[2:]]))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="line 3"):
        ResultsFile(path)
    assert path.read_bytes() == before


def test_a_stray_quotation_mark_costs_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with ResultsFile(path) as results:
        results.begin(ENCLAVE)
        for name in ("a.png", "b.png", "c.png"):
            results.add(answered(name, FIRST), ENCLAVE, top=None)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'"', *lines[1:]]))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="quotation mark"):
        ResultsFile(path)
    assert path.read_bytes() == before


def test_a_table_that_an_editor_saved_with_other_line_ends_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with ResultsFile(path) as results:
        results.begin(ENCLAVE)
        results.add(answered("a.png", FIRST), ENCLAVE, top=None)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with ResultsFile(path) as results:
        results.begin(ENCLAVE)
        results.add(answered("b.png", FIRST), ENCLAVE, top=None)
    with ResultsFile(path) as results:
        assert results.has("a.png", FIRST)
        assert results.has("b.png", FIRST)


@ENDINGS
def test_a_picture_is_known_by_its_path_however_that_is_spelled(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with ResultsFile(path) as results:
        results.begin(ENCLAVE)
        results.add(answered(str(path.parent / "d.png"), FIRST), ENCLAVE, top=None)
        results.add(answered("-", FIRST), ENCLAVE, top=None)
    with ResultsFile(path) as results:
        for name in ("./a.png", "x/../a.png", str(path.parent / "a.png"), "d.png", "-"):
            assert results.has(name, FIRST), name
        assert not results.has("./-", FIRST), "a file of that name is not standard input"
    monkeypatch.chdir("/")
    with ResultsFile(path) as results:
        assert not results.has(str(path.parent / "a.png"), FIRST), "it was /a.png, as far as the file says"


def test_names_that_no_file_can_have_are_no_bug(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path) as results:
        results.begin(ENCLAVE)
        results.add(answered("a.png", FIRST), ENCLAVE, top=None)
    path.write_bytes(path.read_bytes().replace(b'"a.png"', rb'"\ud800\u0000.png"'))
    with ResultsFile(path) as results:
        assert not results.has("a.png", FIRST)


@ENDINGS
def test_a_file_that_was_removed_meanwhile_is_said(path: Path) -> None:
    results = ResultsFile(path)
    results.begin(ENCLAVE)
    results.add(answered("d.png", FIRST), ENCLAVE, top=None)
    path.unlink()
    with pytest.raises(HostError, match="removed"):
        results.sync()
    with pytest.raises(HostError, match="removed"):
        results.__exit__(None, None, None)


@ENDINGS
def test_the_error_that_ended_a_batch_is_the_one_that_is_told(path: Path) -> None:
    """The command's JSON object has it already, and a second error would be a second object."""
    lost = StateError("the enclave was lost")

    def batch() -> None:
        with ResultsFile(path):
            path.unlink()
            raise lost

    with pytest.raises(StateError) as caught:
        batch()
    assert caught.value is lost


def test_a_command_that_gets_nowhere_removes_no_file_of_another(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with ResultsFile(path):
        path.rename(tmp_path / "away.csv")
        path.write_text("another command's")
    assert path.read_text() == "another command's"


def test_a_command_never_writes_to_a_file_that_is_not_there_any_more(tmp_path: Path) -> None:
    """The one before, which got nowhere, removes its empty file while the next one opens it."""
    path = tmp_path / "out.csv"
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            with suppress(StateError), ResultsFile(path):
                pass

    others = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in others:
        thread.start()
    try:
        tried = 0
        while tried < 40:
            with suppress(StateError), ResultsFile(path):
                assert path.exists()
                tried += 1
    finally:
        stop.set()
        for thread in others:
            thread.join()


@ENDINGS
def test_another_models_answers_are_not_mixed_in(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(ENCLAVE.card.sha256.encode(), b"cd" * 32))
    with ResultsFile(path) as results, pytest.raises(UsageError) as caught:
        results.begin(ENCLAVE)
    assert caught.value.code == "results-model"


@ENDINGS
def test_two_commands_do_not_write_to_one_file(path: Path) -> None:
    with ResultsFile(path), pytest.raises(StateError, match="another command"):
        ResultsFile(path)


def test_a_command_that_gets_nowhere_leaves_no_file(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "out.csv"):
        pass
    assert not (tmp_path / "out.csv").exists()


def test_links_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "there.csv")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("link.csv", "folder.csv", "pipe.csv", "no/such.csv"):
        with pytest.raises(UsageError) as info:
            ResultsFile(tmp_path / name)
        assert ("symbolic link" in info.value.message) == (name == "link.csv")


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """A limit on the size of files: a write past it is cut, and the next one fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@ENDINGS
def test_a_full_disk_leaves_whole_lines(path: Path) -> None:
    before = path.read_bytes()
    with ResultsFile(path) as results:
        results.begin(ENCLAVE)
        with room_for(len(before) + 20), pytest.raises(HostError) as caught:
            results.add(answered("d.png", FIRST), ENCLAVE, top=None)
        assert caught.value.code == "results-file"
        assert path.read_bytes() == before
        results.add(answered("d.png", FIRST), ENCLAVE, top=None)
    with ResultsFile(path) as results:
        assert results.has("d.png", FIRST)
