"""``run``, ``list``, ``describe``, ``console``, ``terminate``: more than one enclave at a time."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, is_alive, kill, sample, wait_until
from tests.small_disk import fill, free, small_disk


def test_two_enclaves_at_once_from_start_to_end(cli: Cli) -> None:
    first = cli.ok("run", "--name", "first", "-o", "json").json()
    assert (first["schema"], first["trust"], first["backend"]) == (
        "enclavectl.enclave/1",
        "simulated",
        "local",
    )
    second = cli.ok("run", "--name", "second", "-o", "json").json()
    ids = [one["enclave"]["id"] for one in (first, second)]
    assert first["enclave"]["pcrs"] == second["enclave"]["pcrs"]

    listed = cli.ok("list", "-o", "json").json()
    assert listed["schema"] == "enclavectl.enclaves/1"
    assert [(one["id"], one["name"], one["state"]) for one in listed["enclaves"]] == [
        (ids[0], "first", "RUNNING"),
        (ids[1], "second", "RUNNING"),
    ]
    assert [line.split()[:3] for line in cli.ok("list").out.splitlines()[1:]] == [
        ["first", "RUNNING", "simulated"],
        ["second", "RUNNING", "simulated"],
    ]

    assert "exists already" in cli.refused(6, "run", "--name", "first")["message"]
    for reference in ("second", "sec", ids[1], ids[1][:12]):
        assert cli.ok("describe", reference, "-o", "json").json()["enclave"]["id"] == ids[1]
    assert "several" in cli.refused(6, "describe", "enc")["message"]
    assert "several enclaves are running" in cli.refused(6, "diagnose", sample("nv"))["message"]
    for name, enclave_id in zip(("first", "second"), ids, strict=True):
        value = cli.ok("diagnose", "--enclave", name, sample("nv"), "-o", "json").json()
        assert value["evidence"]["module_id"].endswith(enclave_id)

    assert cli.ok("terminate", "first", "-o", "json").json()["terminated"] == ["first"]
    twice = cli.ok("terminate", "first", "-o", "json")
    assert (twice.json()["terminated"], "first has ended already" in twice.err) == ([], True)
    assert "no such enclave; known: second" in cli.refused(6, "terminate", "another")["message"]
    value = cli.ok("diagnose", sample("nv"), "-o", "json").json()
    assert value["evidence"]["module_id"].endswith(ids[1])
    processes = cli.processes()
    assert len(processes) == 2
    assert cli.ok("terminate", "--all").out == "terminated second\n"
    cli.assert_nothing_left(processes)
    again = cli.ok("terminate", "--all")
    assert (again.out, again.err) == ("", "enclavectl: no enclave to terminate\n")
    assert cli.refused(2, "terminate")["hint"]
    assert cli.refused(2, "terminate", "x", "--all")["hint"]


@pytest.mark.parametrize("name", ["", "a b", "new\nline", "../x", "-x", "a" * 65])
def test_a_name_that_is_none_starts_nothing(cli: Cli, name: str) -> None:
    assert "name: expected 1 to 64" in cli.refused(2, "run", f"--name={name}")["message"]
    cli.assert_nothing_left()


def test_the_console_and_following_it(shared: Cli) -> None:
    ran = shared.ok("console", "shared")
    assert "enclave_payload: serving model demo-lesion\n" in ran.out
    assert ran.err == "enclavectl: console of shared (simulated)\n"
    value = shared.ok("console", "shared", "-o", "json").json()
    assert (value["schema"], value["enclave"]) == ("enclavectl.console/1", "shared")
    assert value["text"] == ran.out


def test_following_a_console_ends_with_the_enclave(cli: Cli) -> None:
    cli.ok("run", "--name", "followed")
    with cli.start("console", "--follow", "followed") as follower:
        assert follower.stdout is not None
        while "serving" not in follower.stdout.readline():
            pass
        kill(cli.processes()[1])
        rest = follower.stdout.read()
        assert follower.wait(30) == 0
    assert "the payload ended" in rest
    assert "signal 9" in rest


@pytest.mark.parametrize("words", [("console", "shared", "--save"), ("describe", "shared", "--policy-file")])
def test_a_file_for_which_there_was_no_room_is_written_by_the_next_try(
    shared: Cli, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        fill(disk)
        error = shared.refused(2, *words, disk / "file")
        assert error["message"].startswith(f"{words[-1]} {disk / 'file'}: ")
        assert [path.name for path in disk.iterdir()] == ["filler"]
        free(disk)
        shared.ok(*words, disk / "file")
        assert (disk / "file").stat().st_size > 0
    assert "make the folder first" in shared.refused(2, *words, tmp_path / "absent" / "file")["hint"]


def test_a_policy_that_describe_wrote_is_one_that_diagnose_takes(shared: Cli, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    shared.ok("describe", "shared", "--policy-file", policy)
    before = policy.read_bytes()
    error = shared.refused(2, "describe", "shared", "--policy-file", policy)
    assert (error["code"], "--to" in error["hint"]) == ("policy-exists", False)
    assert "--save" in shared.refused(2, "console", "shared", "--save", policy)["message"]
    assert policy.read_bytes() == before
    value = shared.ok("diagnose", sample("nv"), "--policy", policy, "-o", "json").json()
    assert value["evidence"]["release"] == "shared as started"
    here = shared.ok("describe", "shared", "-o", "json").json()["enclave"]
    there = shared.ok(
        "diagnose",
        "--connect",
        here["address"],
        "--policy",
        policy,
        "--root",
        shared.root,
        sample("bcc"),
        "-o",
        "json",
    ).json()
    assert (there["backend"], there["trust"]) == ("remote", "simulated")
    assert there["results"][0]["label"]["code"] == "bcc"


def test_without_the_development_root_a_local_enclave_is_nobody(shared: Cli, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    shared.ok("describe", "shared", "--policy-file", policy)
    address = shared.ok("describe", "shared", "-o", "json").json()["enclave"]["address"]
    options = ("--connect", address, "--policy", policy, sample("bcc"))
    assert shared.refused(4, "diagnose", *options)["code"] == "trust-not-accepted"
    policy.write_text(policy.read_text().replace("accept: [simulated]", "accept: [nitro]"))
    assert shared.refused(4, "diagnose", *options)["code"] == "chain-root"


def test_debug_is_loud_and_refused_unless_told_otherwise(cli: Cli, tmp_path: Path) -> None:
    ran = cli.ok("run", "--name", "bugs", "--debug")
    assert ran.err.startswith("enclavectl: DEBUG MODE: nothing measures this enclave's code.")
    assert ran.out.startswith("DEBUG  the enclave runs in debug mode")
    listed = cli.ok("list", "-o", "json").json()["enclaves"]
    assert [(one["trust"], one["debug"]) for one in listed] == [("debug", True)]
    error = cli.refused(4, "diagnose", sample("nv"))
    assert (error["kind"], error["code"]) == ("attestation", "debug-mode")
    value = cli.ok("diagnose", sample("nv"), "--unsafe-allow-debug", "-o", "json").json()
    assert value["trust"] == "debug"
    assert value["results"][0]["receipted"]
    assert value["evidence"]["pcrs"]["0"] == "00" * 48
    assert value["evidence"]["release"] is None
    report = tmp_path / "r.html"
    text = cli.ok("diagnose", sample("nv"), "--unsafe-allow-debug", "--report", report).out
    assert text.startswith("DEBUG  ")
    assert "debug" in report.read_text().lower()
    policy = tmp_path / "policy.yaml"
    cli.ok("describe", "bugs", "--policy-file", policy)
    assert cli.refused(4, "diagnose", sample("nv"), "--policy", policy)["code"] == "debug-mode"


@pytest.mark.parametrize("victim", ["supervisor", "payload"])
def test_a_dead_enclave_is_listed_and_told_and_can_be_removed(cli: Cli, victim: str) -> None:
    cli.ok("run", "--name", "mortal")
    supervisor, payload = cli.processes()
    kill(supervisor if victim == "supervisor" else payload)
    wait_until(lambda: not is_alive(supervisor) and not is_alive(payload), "both are gone")
    (listed,) = cli.ok("list", "-o", "json").json()["enclaves"]
    assert (listed["state"], listed["pid"]) == ("DEAD", None)
    assert cli.ok("describe", "mortal", "-o", "json").json()["enclave"]["state"] == "DEAD"
    text = cli.ok("console", "mortal").out
    assert "serving model demo-lesion" in text
    assert ("the payload ended" in text) is (victim == "payload")
    error = cli.refused(6, "diagnose", "--enclave", "mortal", sample("nv"))
    assert "found a dead one" in error["message"]
    assert "enclavectl console mortal" in error["hint"]
    assert cli.refused(6, "send", "--enclave", "mortal", sample("nv"))["code"] == "state"
    # The dead are not in the way of the living.
    assert cli.ok("diagnose", sample("nv"), "-o", "json").json()["results"][0]["label"]["code"] == "nv"
    assert "exists already" in cli.refused(6, "run", "--name", "mortal")["message"]
    assert cli.ok("terminate", "mortal").out == "terminated mortal\n"
    cli.assert_nothing_left()


def test_an_enclave_outlives_the_terminal_that_started_it(cli: Cli) -> None:
    with cli.start("run", "--name", "lasting") as command:
        command.communicate(timeout=60)
    for pid in cli.processes():
        assert Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[3] == str(pid), (
            "its own session"
        )
    assert cli.ok("list", "-o", "json").json()["enclaves"][0]["state"] == "RUNNING"
    cli.ok("terminate", "lasting")


def test_a_stubborn_supervisor_is_killed(cli: Cli) -> None:
    cli.ok("run", "--name", "stuck")
    processes = cli.processes()
    for pid in processes:
        import os

        os.kill(pid, signal.SIGSTOP)
    cli.ok("terminate", "stuck")
    cli.assert_nothing_left(processes)
