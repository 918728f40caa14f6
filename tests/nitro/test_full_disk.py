"""A disk that is full while an enclave boots, runs or ends: no enclave is lost, and none cannot be ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import wait_until
from tests.nitro.cli import NitroCli
from tests.nitro.host import FakeHost
from tests.small_disk import fill, free, small_disk


@pytest.fixture
def cli(tmp_path: Path, host: FakeHost) -> Iterator[NitroCli]:
    """Commands whose state folder is a file system of 4 MiB."""
    (tmp_path / "home").mkdir()
    with small_disk(tmp_path / "state", "4m"):
        made = NitroCli(tmp_path, host=host)
        yield made
        free(made.state)
        made.run("terminate", "--all")
        wait_until(lambda: not made.keepers(), "keepers end with their enclaves")


def bytes_read(cli: NitroCli) -> int:
    """How much the keeper has read; nothing on a full disk can tell."""
    return max(
        int(line.removeprefix("rchar: "))
        for keeper in cli.keepers()
        for line in Path(f"/proc/{keeper}/io").read_text().splitlines()
        if line.startswith("rchar: ")
    )


def test_full_before_the_start_leaves_nothing(cli: NitroCli) -> None:
    fill(cli.state)
    assert "No space left" in str(cli.refused(3, "run", cli.fake.eif)["message"])
    free(cli.state)
    assert (cli.fake.enclaves(), cli.records(), cli.images()) == ([], [], [])


def test_full_while_it_boots_the_answer_is_kept(cli: NitroCli) -> None:
    cli.fake.hold("boot")
    with cli.start("run", cli.fake.eif, "--name", "first") as run:
        wait_until(lambda: cli.fake.enclaves() == [16], "it boots")
        fill(cli.state)
        cli.fake.let_go("boot")
        _, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    (one,) = cli.ok("list", "-o", "json").json()["enclaves"]
    assert (one["name"], one["state"], one["machine"]["cid"]) == ("first", "RUNNING", 16)


def test_full_while_it_runs_and_when_it_ends(cli: NitroCli) -> None:
    cli.ok("run", cli.fake.eif, "--name", "first", "--debug")
    fill(cli.state)
    before = bytes_read(cli)
    cli.fake.prints("x" * 5000)  # more than the rest of the last page that the log has
    wait_until(lambda: bytes_read(cli) >= before + 5000, "its keeper has read it")
    # A child that was forked a moment ago is still called like its keeper.
    wait_until(lambda: len(cli.keepers()) == 1, "its keeper goes on")
    free(cli.state)
    cli.fake.prints("there is room again")
    wait_until(lambda: "room again" in cli.ok("console", "first").out, "it is recorded")
    assert "bytes are missing here: the disk was full" in cli.ok("console", "first").out
    fill(cli.state)
    ended = cli.ok("terminate", "first")
    assert "its history is not kept" in ended.err
    assert (cli.fake.enclaves(), cli.records(), cli.images()) == ([], [], [])
