"""``diagnose FOLDER --results``: every end in the middle, and the next command that goes on from there."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli import CODES, Cli, kill, sample, wait_until
from tests.small_disk import fill, small_disk

COUNT = 120
ENDINGS = pytest.mark.parametrize("ending", ["csv", "jsonl"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(COUNT):
        (folder / f"{number:03}.png").symlink_to(sample(CODES[number % 7]))
    return folder


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def labels(path: Path) -> list[tuple[str, str]]:
    """The picture and the label, or the error, of each line."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [(row["image"], row["label"] or row["error"]) for row in csv.DictReader(file)]
    values = [json.loads(line) for line in path.read_text().splitlines()]
    return [(value["image"], value.get("label", value.get("error"))["code"]) for value in values]


def assert_complete(path: Path, folder: Path) -> None:
    """Each picture is there once, with the answer that is its own."""
    found = labels(path)
    expected = {str(folder / f"{number:03}.png"): CODES[number % 7] for number in range(COUNT)}
    assert [name for name, count in Counter(name for name, _ in found).items() if count > 1] == []
    assert dict(found) == expected


def begin(cli: Cli, folder: Path, path: Path, *words: str) -> subprocess.Popen[str]:
    """The command, once it has written some of its answers."""
    process = cli.start("diagnose", folder, "--results", path, *words)
    wait_until(lambda: lines(path) > 10 or process.poll() is not None, "some answers are written")
    return process


def go_on(cli: Cli, folder: Path, path: Path) -> Any:
    before = len(labels(path)) if path.exists() else 0
    value = cli.ok("diagnose", folder, "--results", path, "--output", "json").json()
    assert (value["complete"], value["pictures"], value["answered"]) == (True, COUNT, COUNT)
    assert value["earlier"] == before
    assert len(value["results"]) == COUNT - before
    assert_complete(path, folder)
    return value


@ENDINGS
def test_killed_with_9_in_the_middle_and_run_again(shared: Cli, folder: Path, ending: str) -> None:
    path = folder.parent / f"out.{ending}"
    with begin(shared, folder, path) as process:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 10 < lines(path) < COUNT
    go_on(shared, folder, path)
    # Once more, with nothing left to do: no enclave is asked.
    value = shared.ok("diagnose", folder, "--results", path, "--output", "json").json()
    assert (value["evidence"], value["results"], value["earlier"]) == (None, [], COUNT)
    assert f"{COUNT} of {COUNT} pictures are in" in shared.ok("diagnose", folder, "--results", path).out
    assert path.stat().st_mode & 0o777 == 0o600


@ENDINGS
def test_interrupted_by_ctrl_c(shared: Cli, folder: Path, ending: str) -> None:
    path = folder.parent / f"out.{ending}"
    with begin(shared, folder, path, "--output", "json") as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    value = json.loads(out)
    assert (value["complete"], value["answered"]) == (False, len(labels(path)))
    assert value["error"]["hint"] == "the same command goes on with the others"
    go_on(shared, folder, path)


def test_an_enclave_that_is_lost(cli: Cli, folder: Path) -> None:
    path = folder.parent / "out.csv"
    with begin(cli, folder, path, "--fresh", "--output", "json") as process:
        for pid in cli.processes():
            kill(pid)
        out, _ = process.communicate(timeout=120)
    # It goes on with an enclave that it starts; if that was not to be, the next command does.
    value = json.loads(out)
    assert value["answered"] == len(labels(path))
    assert value["complete"] is (process.returncode == 0)
    go_on(cli, folder, path)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit of util-linux is not installed here")
@ENDINGS
def test_a_disk_that_is_full(shared: Cli, folder: Path, ending: str) -> None:
    """A limit on the size of files stands for it; the state folder's files are smaller."""
    path = folder.parent / f"out.{ending}"
    small = Cli(shared.base, program=("prlimit", "--fsize=12000", *shared.program))
    ran = small.run("diagnose", folder, "--results", path, "--output", "json")
    assert ran.status == 3, ran.err
    value = ran.json()
    assert (value["complete"], value["error"]["code"]) == (False, "results-file")
    assert "make room" in ran.err
    assert 0 < len(labels(path)) == value["answered"] < COUNT
    assert path.read_bytes().endswith(b"\n")
    go_on(shared, folder, path)


def test_a_full_disk_stops_only_what_would_be_written(shared: Cli, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "64k") as small:
        path = small / "out.jsonl"
        again = ("diagnose", sample("nv"), "--results", path)
        shared.ok(*again)
        fill(small)
        assert "1" in shared.ok(*again).out
        assert "cannot be written" in shared.refused(2, *again, sample("bcc"))["message"]
        assert path.read_bytes().count(b"\n") == 1


def test_changed_and_refused_pictures_are_asked_again(shared: Cli, folder: Path) -> None:
    path = folder.parent / "out.jsonl"
    first, second = folder / "000.png", folder / "001.png"
    second.unlink()
    second.write_bytes(sample("bcc").read_bytes()[:5000])
    (folder / "text.png").write_text("no picture")
    again = ("diagnose", folder, "--results", path, "--output", "json")
    ran = shared.run(*again)
    assert (ran.status, ran.json()["complete"], ran.json()["answered"]) == (5, True, COUNT - 1)
    ran = shared.run(*again)
    assert (ran.status, ran.json()["results"]) == (5, []), "the verdict stays while nothing changes"
    first.unlink()
    first.symlink_to(sample("vasc"))
    ran = shared.run(*again, "--retry-refused")
    asked = {Path(one["image"]).name for one in ran.json()["results"]}
    assert asked == {"000.png", "001.png", "text.png"}
    second.unlink()
    second.symlink_to(sample("nv"))
    (folder / "text.png").unlink()
    assert shared.run(*again).json()["answered"] == COUNT
    assert dict(labels(path))[str(first)] == "vasc"
    assert dict(labels(path))[str(second)] == "nv"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--results", "out.xlsx"), 2),
        (("--results", "no/such/folder.csv"), 2),
        (("--retry-refused",), 2),
        (("--results", "out.csv", "--report", "out.html"), 2),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    shared: Cli, words: tuple[str, ...], code: int
) -> None:
    shared.refused(code, "diagnose", *words, sample("bcc"))
