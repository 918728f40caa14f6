"""Nitro enclaves whose keeper is killed: none is lost, and another keeper takes over."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.cli import is_alive, kill, sample, wait_until
from tests.nitro.cli import STAMPED, NitroCli, command_lines


def kill_keeper(cli: NitroCli) -> None:
    # What it starts is called like it for a moment.
    wait_until(lambda: len(cli.keepers()) == 1, "there is one keeper")
    (keeper,) = cli.keepers()
    kill(keeper)
    wait_until(lambda: not is_alive(keeper), "the keeper is gone")


def readers(cli: NitroCli) -> list[int]:
    """Every ``nitro-cli console`` of this host."""
    program = os.fsencode(cli.fake.program)
    return [pid for pid, line in command_lines() if program in line and b"\0console\0" in line]


def test_the_recording_goes_on_after_its_keeper_was_killed(cli: NitroCli) -> None:
    cli.ok("run", cli.fake.eif, "--name", "bugs", "--debug")
    with cli.start("console", "bugs", "--follow") as follower:
        assert follower.stdout is not None
        while "serving model" not in follower.stdout.readline():
            pass
        (reader,) = readers(cli)
        kill_keeper(cli)
        # The follower sees it, and finds another keeper; so would list, describe or diagnose.
        while "the recording broke off after 20" not in (line := follower.stdout.readline()):
            assert line
        assert STAMPED.fullmatch(line.rstrip())
        wait_until(lambda: len(readers(cli)) == 1 and readers(cli) != [reader], "one reads, another one")
        wait_until(lambda: not is_alive(reader), "the old reader ends")
        # A child that was forked and has not yet become the reader looks like a second keeper.
        wait_until(lambda: len(cli.keepers()) == 1, "one keeps it")

        def is_recorded() -> bool:
            cli.fake.prints("hello again")  # what it prints before the new reader is there may be missing
            return "hello again" in cli.ok("console", "bugs").out

        wait_until(is_recorded, "what it prints is recorded again")
        while "hello again" not in (line := follower.stdout.readline()):
            assert line
        os.kill(listed_pids(cli)["bugs"], signal.SIGTERM)
        _, err = follower.communicate(timeout=60)
    assert follower.returncode == 0
    assert "its keeper was killed; another one has taken over" in err
    wait_until(lambda: cli.listed() == {"bugs": "DEAD"}, "the new keeper saw its end")
    (past,) = cli.ok("history", "-o", "json").json()["enclaves"]
    assert (past["name"], past["ended"] is not None) == ("bugs", True)
    assert "hello again" in cli.ok("logs", "bugs").out
    cli.ok("terminate", "bugs")
    assert cli.records() == []
    wait_until(lambda: not cli.keepers() and not readers(cli), "keeper and reader end")


def listed_pids(cli: NitroCli) -> dict[str, int]:
    return {one["name"]: one["pid"] for one in cli.ok("list", "-o", "json").json()["enclaves"]}


@pytest.mark.parametrize("command", ["run", "diagnose"])
def test_a_keeper_that_is_killed_while_its_enclave_proves_itself(cli: NitroCli, command: str) -> None:
    """Nobody takes it for an enclave that ended, and one that belongs to a command ends with it."""
    cli.fake.set(application_s=2)
    arguments = (cli.fake.eif, "--name", "kept") if command == "run" else (sample("nv"),)
    env = {"ENCLAVECTL_ENCLAVE_EIF": str(cli.fake.eif)}
    with cli.start(command, *arguments, env=env) as ran:
        wait_until(lambda: any(cli.state.rglob("launched.json")), "it has booted")
        kill_keeper(cli)
        _, err = ran.communicate(timeout=60)
    assert ran.returncode == 0, err
    if command == "run":
        assert cli.listed() == {"kept": "RUNNING"}
        cli.ok("terminate", "kept")
    assert (cli.records(), cli.fake.enclaves(), cli.images()) == ([], [], [])
    wait_until(lambda: not cli.keepers(), "keepers end with their enclaves")


@pytest.mark.parametrize("command", ["list", "describe", "diagnose"])
def test_whoever_looks_at_an_enclave_without_keeper_gives_it_one(cli: NitroCli, command: str) -> None:
    cli.ok("run", cli.fake.eif, "--name", "kept")
    kill_keeper(cli)
    arguments = {"describe": ("kept",), "diagnose": (str(sample("nv")),)}.get(command, ())
    ran = cli.ok(command, *arguments)
    assert "kept: its keeper was killed; another one has taken over" in ran.err
    wait_until(lambda: len(cli.keepers()) == 1, "one keeps it")
    assert "killed" not in cli.ok(command, *arguments).err
    # Its end is seen again.
    os.kill(listed_pids(cli)["kept"], signal.SIGKILL)
    wait_until(lambda: not cli.keepers(), "its keeper saw the end")
    (past,) = cli.ok("history", "-o", "json").json()["enclaves"]
    assert past["ended"]


def test_without_its_keeper_an_enclave_is_found_and_ended(cli: NitroCli) -> None:
    cli.ok("run", cli.fake.eif, "--name", "kept")
    kill_keeper(cli)
    assert cli.listed() == {"kept": "RUNNING"}
    assert cli.ok("diagnose", sample("nv"), "-o", "json").json()["results"][0]["label"]["code"] == "nv"
    cli.ok("terminate", "kept")
    assert (cli.records(), cli.fake.enclaves()) == ([], [])
    assert cli.ok("history", "-o", "json").json()["enclaves"][0]["how"] == "terminated by enclavectl"


def test_an_enclave_whose_keeper_died_in_the_boot_is_adopted(cli: NitroCli) -> None:
    cli.fake.hold("boot")
    with cli.start("run", cli.fake.eif, "--name", "orphan") as command:
        wait_until(lambda: cli.listed() == {"orphan": "BOOTING"}, "it boots")
        # It is told as booting before that: its keeper first asks nitro-cli for the enclaves that are there.
        wait_until(lambda: "run-enclave" in [argv[0] for argv in cli.fake.argv()], "nitro-cli launches it")
        kill_keeper(cli)
        command.communicate(timeout=60)
    assert command.returncode == 3
    assert cli.listed() == {"orphan": "BOOTING"}
    cli.fake.let_go("boot")
    wait_until(lambda: cli.listed() == {"orphan": "RUNNING"}, "nitro-cli's answer is found in its file")
    cli.ok("terminate", "orphan")
    assert cli.fake.enclaves() == []


def test_terminating_one_that_boots_without_its_keeper_ends_it_after_its_boot(cli: NitroCli) -> None:
    cli.fake.hold("boot")
    with cli.start("run", cli.fake.eif, "--name", "orphan") as command:
        wait_until(lambda: "run-enclave" in [argv[0] for argv in cli.fake.argv()], "nitro-cli launches it")
        wait_until(lambda: cli.fake.enclaves() == [16], "it boots")
        kill_keeper(cli)
        command.communicate(timeout=60)
    with cli.start("terminate", "orphan") as end:
        wait_until(lambda: any(cli.state.rglob("ending")), "its end is asked for")
        assert cli.listed() == {"orphan": "BOOTING"}
        cli.fake.let_go("boot")
        end.communicate(timeout=60)
    assert end.returncode == 0
    assert (cli.records(), cli.fake.enclaves(), cli.images()) == ([], [], [])
