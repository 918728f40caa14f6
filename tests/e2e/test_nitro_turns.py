"""Commands at the same time on a Nitro host, and what is ended in the middle: no enclave is lost."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.e2e.cli import is_alive, sample, wait_until
from tests.e2e.nitro import NitroStage
from tests.e2e.terminals import Terminal


def test_two_launches_at_once_take_turns(stage: NitroStage) -> None:
    stage.host.hold("boot")
    first = stage.run("--name", "first")
    wait_until(lambda: stage.launches() == 1, "the first one launches")
    second = stage.run("--name", "second")
    second.await_err("waiting")
    assert stage.launches() == 1
    stage.host.let_go("boot")
    assert [one.end().status for one in (first, second)] == [0, 0]
    assert stage.states() == {"first": "RUNNING", "second": "RUNNING"}


def test_a_run_that_is_ended_while_it_waits_for_its_turn_is_gone_at_once(stage: NitroStage) -> None:
    stage.host.hold("boot")
    first = stage.run("--name", "first")
    wait_until(lambda: stage.launches() == 1, "the first one launches")
    second = stage.run("--name", "second", "-o", "json")
    second.await_err("waiting")
    second.press_ctrl_c()
    ended = second.end()
    assert ended.status == 130
    error = json.loads(ended.out)["error"]
    assert (error["code"], error["exit_code"]) == ("interrupted", 130)
    assert "boot cannot be stopped" not in ended.err
    assert stage.states() == {"first": "BOOTING"}
    assert len(stage.cli.enclave_folders()) == 1
    stage.host.let_go("boot")
    assert first.end().status == 0
    assert stage.launches() == 1


def test_a_launch_while_another_enclave_is_hashed(stage: NitroStage) -> None:
    """nitro-cli asks every enclave for its name at a launch; one that is hashed would be lost by that."""
    stage.host.hold("hash")
    stage.host.hold("boot")
    first = stage.run("--name", "first", "--no-wait")
    wait_until(lambda: stage.launches() == 1, "the first one launches")
    second = stage.run("--name", "second", "--no-wait")
    second.await_err("waiting")
    stage.host.let_go("boot")
    wait_until(lambda: "Received command: Describe" in stage.host.read_log(), "the first one is hashed")
    # Long enough for a launch to ask for names, give up after 3 s, and be on its way.
    time.sleep(6)
    stage.host.let_go("hash")
    for one in (first, second):
        ended = one.end()
        assert ended.status == 0, ended.err
    assert stage.states() == {"first": "RUNNING", "second": "RUNNING"}
    assert stage.host.enclaves() == [16, 17]


def test_list_waits_while_an_enclave_is_hashed(stage: NitroStage) -> None:
    stage.host.hold("hash")
    run = stage.run("--name", "first", "--no-wait")
    wait_until(lambda: "Received command: Describe" in stage.host.read_log(), "it is hashed")
    listing = Terminal(stage.cli.start("list", "-o", "json"))
    listing.await_err("waiting")
    size = stage.image.stat().st_size / 1e6
    listing.await_err(f"first: nitro-cli is hashing its image of {size:.1f} MB, which takes about 1 s")
    listing.await_err("known meanwhile: first RUNNING since ")
    listing.await_err(", CID 16")
    killed = Terminal(stage.cli.start("list"))
    killed.await_err("waiting")
    killed.process.kill()
    killed.end()
    interrupted = Terminal(stage.cli.start("list"))
    interrupted.await_err("waiting")
    interrupted.press_ctrl_c()
    assert interrupted.end().status == 130
    stage.host.let_go("hash")
    [shown] = json.loads(listing.end().out)["enclaves"]
    assert shown["state"] == "RUNNING"
    assert run.end().status == 0
    assert stage.host.enclaves() == [16]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_list_that_is_ended_while_it_talks_loses_no_enclave(stage: NitroStage, how: signal.Signals) -> None:
    """Another user's enclave, which no keeper of ours has settled."""
    stage.host.hold("hash")
    stage.host.launch()
    listing = Terminal(stage.cli.start("list"))
    listing.await_err("nitro-cli describe-enclaves has not answered yet: a new enclave answers nobody")
    listing.process.send_signal(how)
    assert listing.end().status == (130 if how is signal.SIGINT else -signal.SIGKILL)
    second = Terminal(stage.cli.start("list"))
    second.await_err("waiting")
    stage.host.let_go("hash")
    assert second.end().status == 0
    assert stage.host.enclaves() == [16]
    stage.host.run("terminate-enclave", "--all")


@pytest.mark.parametrize("stage_of_run", ["boot", "hash", "application"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_at_any_stage_ends_its_enclave(
    stage: NitroStage, stage_of_run: str, how: signal.Signals
) -> None:
    if stage_of_run == "application":
        stage.host.set(application_s=3600)
    else:
        stage.host.hold(stage_of_run)
    run = stage.run("--name", "first")
    if stage_of_run == "boot":
        wait_until(lambda: stage.host.enclaves() == [16], "it boots")
    elif stage_of_run == "hash":
        wait_until(lambda: "Received command: Describe" in stage.host.read_log(), "it is hashed")
    else:
        wait_until(lambda: stage.states().get("first") == "RUNNING", "it has booted")
    run.process.send_signal(how)
    ended = run.end()
    assert ended.status == (130 if how is signal.SIGINT else -signal.SIGKILL)
    if how is signal.SIGINT and stage_of_run != "application":
        assert "ends by itself" in ended.err
    if stage_of_run != "application":
        stage.host.let_go(stage_of_run)
    stage.assert_only([])
    assert stage.states() == {}


def test_an_enclave_that_dies_right_after_its_boot(stage: NitroStage) -> None:
    stage.host.set(application_s=3600)
    for debug in (("--debug",), ()):
        run = stage.run("--name", "first", *debug, "-o", "json")
        if debug:
            wait_until(lambda: "serving model" in stage.cli.run("console", "first").out, "it is recorded")
        else:
            wait_until(lambda: stage.states() == {"first": "RUNNING"}, "it has booted")
        stage.host.end_guests()
        ended = run.end()
        assert ended.status == 5, ended.err
        error = json.loads(ended.out)["error"]
        assert "first" in error["message"]
        if debug:
            assert "serving model" in error["message"]  # its last words
        else:
            assert "--debug" in error["hint"]
        stage.assert_only([])


def test_an_enclave_that_dies_later_is_dead_and_in_the_history(stage: NitroStage) -> None:
    enclave = stage.ran("--name", "first", "--debug")
    os.kill(enclave["pid"], signal.SIGKILL)
    wait_until(lambda: not is_alive(enclave["pid"]), "it is gone")
    wait_until(lambda: stage.states() in ({"first": "DEAD"}, {}), "list says so")
    error = stage.cli.refused(6, "send", "--enclave", "first", sample("nv"))
    assert "first" in error["message"]
    stage.cli.ok("terminate", "first")
    [past] = stage.cli.ok("history", "-o", "json").json()["enclaves"]
    assert past["name"] == "first"


def test_the_driver_refuses_once_right_after_a_terminate(stage: NitroStage) -> None:
    stage.ran("--name", "first")
    stage.cli.ok("terminate", "first")
    stage.host.set(driver_error=16, driver_error_times=1)
    run = stage.run("--name", "second")
    ended = run.end()
    assert ended.status == 0, ended.err
    assert "trying once more" in ended.err
