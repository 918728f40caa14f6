from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from enclavectl.backends.local.measure import measure, payload_dir

SOURCES = sorted(path.relative_to(payload_dir()) for path in payload_dir().rglob("*.py"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for source in SOURCES:
        (tmp_path / "payload" / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(payload_dir() / source, tmp_path / "payload" / source)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_bytes(b"{}")
    (tmp_path / "model" / "model.tflite").write_bytes(b"weights")
    return tmp_path


def measured(copy: Path) -> dict[int, bytes]:
    return measure(copy / "payload", copy / "model")


def test_equal_files_measure_equal_wherever_they_lie(copy: Path) -> None:
    assert measured(copy) == measure(payload_dir(), copy / "model")
    assert set(measured(copy)) == {0, 1, 2}
    assert len(set(measured(copy).values())) == 3
    assert all(len(value) == 48 for value in measured(copy).values())


@pytest.mark.parametrize(
    "name", [*(f"payload/{source}" for source in SOURCES), "model/model.json", "model/model.tflite"]
)
def test_one_changed_byte_moves_pcr2_and_pcr0_but_not_pcr1(copy: Path, name: str) -> None:
    before = measured(copy)
    with (copy / name).open("ab") as file:
        file.write(b"\n")
    assert_moved(before, measured(copy))


def test_a_new_file_a_removed_file_and_a_new_name_are_changes_too(copy: Path) -> None:
    before = measured(copy)
    (copy / "payload" / "extra.py").touch()
    added = measured(copy)
    assert_moved(before, added)
    (copy / "payload" / "extra.py").rename(copy / "payload" / "other.py")
    assert_moved(added, measured(copy))
    (copy / "payload" / "other.py").unlink()
    assert measured(copy) == before
    (copy / "payload" / "py.typed").touch()  # not code
    assert measured(copy) == before


def test_bytes_that_move_from_one_file_to_the_next_are_a_change(copy: Path) -> None:
    (copy / "payload" / "a.py").write_bytes(b"12")
    (copy / "payload" / "b.py").write_bytes(b"3")
    before = measured(copy)
    (copy / "payload" / "a.py").write_bytes(b"1")
    (copy / "payload" / "b.py").write_bytes(b"23")
    assert_moved(before, measured(copy))


def assert_moved(before: dict[int, bytes], after: dict[int, bytes]) -> None:
    assert before[0] != after[0]
    assert before[1] == after[1]
    assert before[2] != after[2]
