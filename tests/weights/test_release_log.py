"""The owner's log of releases, on a disk that is full, after a power cut, and shared by two programs."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from enclavectl.errors import EnclaveError, HostError, StateError
from enclavectl.weights.key_file import ModelKey
from enclavectl.weights.log import TRIES_A_MINUTE, ReleaseLog, Try

LINE = Try(
    is_allowed=True,
    file_id=bytes(16),
    model_id="m",
    document_sha256="ab" * 32,
    module_id="i-0",
    trust="nitro",
    pcrs={"0": "ab" * 48},
    lease_s=None,
    error=None,
)


REFUSED = replace(LINE, is_allowed=False, error="pcr-mismatch: another image")


def lines(path: Path) -> list[str]:
    return [json.loads(line)["result"] for line in path.read_text().splitlines()]


def test_a_line_of_which_a_part_fits_on_the_disk_releases_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = ReleaseLog(path, None)
    log.write(LINE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
    try:
        with pytest.raises(HostError, match="nothing is released"):
            log.write(LINE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert lines(path) == ["allowed"]
    ReleaseLog(path, None).write(LINE)
    assert lines(path) == ["allowed", "allowed"]


def test_the_half_line_of_a_power_cut_goes_with_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ReleaseLog(path, None).write(LINE)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:200])
    with pytest.raises(StateError):
        ReleaseLog(path, 1).write(LINE)
    ReleaseLog(path, 2).write(LINE)
    assert lines(path) == ["allowed", "allowed"]


def test_programs_that_write_one_log_share_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    one, other = ReleaseLog(path, 2), ReleaseLog(path, 2)
    one.write(LINE)
    other.write(LINE)
    for log in (one, other):
        with pytest.raises(StateError, match="found 2"):
            log.write(LINE)


def test_a_log_that_was_moved_away_releases_nothing_where_it_counts(tmp_path: Path) -> None:
    """Another program's last line may be in the log that was moved, and was not counted here."""
    path = tmp_path / "log"
    one, other = ReleaseLog(path, 3), ReleaseLog(path, 3)
    for log in (one, other, one):
        log.write(LINE)
    path.rename(tmp_path / "log.1")
    with pytest.raises(HostError, match="found it moved or cut"):
        other.write(LINE)
    assert path.read_bytes() == b""


def test_a_log_without_a_limit_may_be_moved(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = ReleaseLog(path, None)
    log.write(LINE)
    path.rename(tmp_path / "log.1")
    log.write(LINE)
    assert lines(path) == ["allowed"]


def test_a_long_word_of_a_stranger_makes_no_line_that_cannot_be_read(tmp_path: Path) -> None:
    log = ReleaseLog(tmp_path / "log", None)
    error = EnclaveError("\0" * 100_000, code="key-config")
    log.write(
        Try.refused(ModelKey(model_id="m", file_id=bytes(16), key=bytes(32), register=bytes(48)), None, error)
    )
    ReleaseLog(tmp_path / "log", None)


def test_strangers_fill_no_disk_and_keep_no_release_from_others(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = ReleaseLog(path, None)
    for _ in range(2 * TRIES_A_MINUTE):
        log.write(REFUSED)
    log.write(LINE)
    assert lines(path) == ["refused"] * TRIES_A_MINUTE + ["allowed"]


def test_releases_in_a_loop_end() -> None:
    log = ReleaseLog(None, None)
    for _ in range(TRIES_A_MINUTE):
        log.write(LINE)
    with pytest.raises(StateError) as caught:
        log.write(LINE)
    assert caught.value.code == "rate"
