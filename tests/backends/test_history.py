"""What is kept of enclaves that are gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enclavectl.backends.history import KEEP, TAIL_BYTES, History, HistoryEntry, console_tail

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
ENTRY = HistoryEntry(
    enclave_id="i-0-enc1",
    name="first",
    backend="nitro",
    trust="nitro",
    started=START,
    ended=None,
    how="it vanished",
    model_id=None,
    pcrs={"0": "00"},
    console="one\ntwo\n",
)


def test_what_was_added_is_found_and_private(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert (history.all(), history.find("first")) == ([], None)
    history.add(ENTRY)
    later = replace(
        ENTRY, enclave_id="i-0-enc2", started=START + timedelta(hours=1), ended=START, model_id="m"
    )
    history.add(later)
    assert history.all() == [ENTRY, later]
    assert history.find("first") == later  # the newest of that name
    assert history.find("i-0-enc1") == ENTRY
    assert history.find("fir") == later
    assert history.find("") is None
    assert history.find("second") is None
    (file, _) = sorted((tmp_path / "history").iterdir())
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert "console" not in ENTRY.to_json(console=False)


def test_who_saw_the_end_first_is_believed(tmp_path: Path) -> None:
    History(tmp_path).add(ENTRY)
    History(tmp_path).add(replace(ENTRY, how="otherwise"))
    assert [entry.how for entry in History(tmp_path).all()] == ["it vanished"]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for number in range(KEEP + 3):
        History(tmp_path).add(replace(ENTRY, started=START + timedelta(seconds=number)))
    found = History(tmp_path).all()
    assert len(found) == KEEP
    assert found[0].started == START + timedelta(seconds=3)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"schema": "enclavectl.history-entry/1"}'])
def test_a_damaged_file_hides_no_other(tmp_path: Path, data: bytes) -> None:
    History(tmp_path).add(ENTRY)
    (tmp_path / "history" / "19990101T000000Z-x.json").write_bytes(data)
    assert History(tmp_path).all() == [ENTRY]


def test_an_id_is_no_path(tmp_path: Path) -> None:
    History(tmp_path).add(replace(ENTRY, enclave_id="../../x"))
    assert [path.name for path in tmp_path.iterdir()] == ["history"]
    assert History(tmp_path).find("../../x") is not None


def test_the_tail_of_a_console_begins_with_a_whole_line() -> None:
    assert console_tail([b"a\n", b"b\n"]) == "a\nb\n"
    long = b"".join(b"line %06d\n" % number for number in range(10_000))
    tail = console_tail([long])
    assert len(tail) <= TAIL_BYTES
    assert tail.startswith("line ")
    assert tail.endswith("line 009999\n")
