"""What bad input gets on a Nitro host: a message that names the fix, nothing half done, no enclave lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.cli import is_alive, sample, wait_until
from tests.e2e.nitro import MEMORY, NitroStage, nitro_stage
from tests.e2e.terminals import Terminal
from tests.nitro.host import write_image


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[NitroStage]:
    with nitro_stage(tmp_path) as made:
        yield made


def test_without_nitro_cli(stage: NitroStage) -> None:
    stage.host.program.rename(stage.host.home / "away")
    for arguments in (("run", stage.image, *MEMORY), ("list",), ("terminate", "--all")):
        error = stage.cli.refused(3, *arguments)
        assert error["code"] == "nitro-cli-missing"
        assert "enclavectl setup" in error["hint"]
    (stage.host.home / "away").rename(stage.host.program)


def test_a_nitro_cli_that_is_none(stage: NitroStage) -> None:
    program = stage.host.program
    away = program.rename(stage.host.home / "away")
    program.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    program.chmod(0o755)
    error = stage.cli.refused(3, "list")
    assert "enclavectl setup" in error["hint"]
    away.rename(program)


@pytest.mark.parametrize(
    ("settings", "told", "hint"),
    [
        ({"device": "missing"}, "/dev/nitro_enclaves", "enclavectl doctor"),
        ({"device": "denied"}, "/dev/nitro_enclaves", "enclavectl setup"),
        ({"module": False}, "driver is not loaded", "modprobe nitro_enclaves"),
        ({"pages": {"2": 100}, "sysfs": False}, "E27", "enclavectl plan"),
        ({"cores": [[1, 9]], "pages": {"1024": 2}, "sysfs": False}, None, ""),
        ({"port_9000_taken": True}, "E36", "ss --vsock"),
        ({"heartbeat": False, "boot_timeout_s": 0.2}, "E36", ""),
        (
            {"driver_error": "The memory region's pages and the CPUs belong to different NUMA nodes"},
            "NUMA",
            "",
        ),
    ],
)
def test_a_host_that_cannot(
    stage: NitroStage, settings: dict[str, object], told: str | None, hint: str
) -> None:
    stage.host.set(**settings)
    if told is None:
        stage.ran("--name", "first")
        error = stage.run_refused(3, "--name", "second")
        assert "no CPUs are available in the pool" in error["message"]
        assert stage.states() == {"first": "RUNNING"}
        return
    error = stage.run_refused(3)
    assert told in error["message"]
    assert hint in error["hint"]
    assert "E39" not in error["message"]
    assert stage.states() == {}


def test_no_log_folder_and_no_socket_folder(stage: NitroStage) -> None:
    for name in ("log", "run"):
        folder = stage.host.home / name
        away = folder.rename(stage.host.home / "away")
        error = stage.cli.refused(3, "list")
        assert error["hint"]
        if folder.exists():  # nitro-cli made it, to complain
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        away.rename(folder)


@pytest.mark.parametrize(
    ("settings", "arguments", "code", "told", "hint"),
    [
        (
            {"pages": {"2": 100}},
            (),
            "memory-free",
            "1024 MiB of huge pages are needed on NUMA node 0, 200 of 200 MiB are free",
            "enclavectl setup --memory 1024 --cpus 2; or --memory 200 now",
        ),
        (
            {"pages": {"1024": 0}},
            (),
            "memory-free",
            "0 of 0 MiB are free",
            "enclavectl setup --memory 1024 --cpus 2",
        ),
        (
            {},
            ("--memory", "65536"),
            "memory-free",
            "65536 MiB of huge pages are needed on NUMA node 0, 16384 of 16384 MiB are free",
            "this host can keep 6197",
        ),
        ({}, ("--cpus", "3"), "split-core", "3 CPUs are no whole number of cores", "--cpus 4"),
        ({}, ("--cpus", "10"), "cpus-free", "10 CPUs are needed, 8 of the pool's 8 are free", "or --cpus 8"),
        ({"cores": []}, (), "cpus-free", "0 of the pool's 0 are free", "larger instance"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_launch(
    stage: NitroStage,
    settings: dict[str, object],
    arguments: Sequence[str],
    code: str,
    told: str,
    hint: str,
) -> None:
    stage.host.set(**settings)
    error = stage.run_refused(3, *arguments)
    assert error["code"] == code
    assert told in error["message"]
    assert hint in error["hint"]
    assert stage.launches() == 0
    assert list((stage.cli.state / "nitro").glob("images/*")) == []
    # Nothing was begun, so there is nothing to remember.
    assert stage.cli.ok("history", "-o", "json").json()["enclaves"] == []


def test_what_runs_is_counted_and_what_has_ended_is_not(stage: NitroStage) -> None:
    stage.host.set(cores=[[1, 9], [2, 10]], pages={1024: 2})
    first = stage.ran("--name", "first")
    error = stage.run_refused(3, "--name", "second", "--memory", "2048", "--cpus", "4")
    assert error["code"] == "cpus-free"
    assert "4 CPUs are needed, 2 of the pool's 4 are free" in error["message"]
    assert "2048 MiB of huge pages are needed on NUMA node 0, 1024 of 2048 MiB are free" in error["message"]
    assert "or --memory 1024 now" in error["hint"]
    stage.cli.ok("terminate", first["name"])
    stage.cli.ok("run", stage.image, "--memory", "2048", "--cpus", "4", "--name", "second")
    assert stage.states() == {"second": "RUNNING"}


def test_the_room_that_another_launch_took_is_missed_before_the_second_one_begins(stage: NitroStage) -> None:
    stage.host.set(cores=[[1, 9]], pages={1024: 1})
    stage.host.hold("boot")
    first = stage.run("--name", "first")
    wait_until(lambda: stage.launches() == 1, "the first one launches")
    # It boots, so nobody can see its CPUs; its pages are gone already.
    error = stage.cli.refused(3, "run", stage.image, *MEMORY, "--name", "second")
    assert error["code"] == "memory-free"
    # Pages for one more: then it is seen when its turn has come.
    stage.host.set(cores=[[1, 9]], pages={1024: 2})
    third = stage.run("--name", "third", "-o", "json")
    third.await_err("waiting")
    stage.host.let_go("boot")
    assert first.end().code == 0
    ended = third.end()
    error = json.loads(ended.stdout)["error"]
    assert (ended.code, error["code"]) == (3, "cpus-free")
    assert "0 of the pool's 2 are free" in error["message"]
    assert stage.launches() == 1
    assert stage.states() == {"first": "RUNNING"}


@pytest.mark.parametrize("doubt", ["unreadable", "overcommit", "another node", "no topology"])
def test_where_the_host_does_not_say_it_plainly_nitro_cli_decides(stage: NitroStage, doubt: str) -> None:
    tree = stage.host.home / "tree"
    arguments = MEMORY if doubt != "no topology" else ("--memory", "1024", "--cpus", "3")
    code = {"no topology": "nitro-cli-E29"}.get(doubt, "nitro-cli-E27")
    stage.host.set(pages={2: 100})
    stage.host.run("describe-enclaves")  # the tree is there
    stage.host.set(pages={2: 100} if code.endswith("27") else {1024: 4}, sysfs=False)
    node = tree / "sys/devices/system/node/node0"
    if doubt == "unreadable":
        for counter in node.glob("hugepages/*/*"):
            counter.write_text("?\n")
    elif doubt == "overcommit":
        pools = tree / "sys/kernel/mm/hugepages/hugepages-2048kB"
        pools.mkdir(parents=True)
        (pools / "nr_overcommit_hugepages").write_text("512\n")
    elif doubt == "another node":
        pages = node.with_name("node1") / "hugepages/hugepages-1048576kB"
        pages.mkdir(parents=True)
        for name in ("nr_hugepages", "free_hugepages"):
            (pages / name).write_text("4\n")
    else:
        for core in (tree / "sys/devices/system/cpu").glob("cpu*"):
            shutil.rmtree(core)
        for counter in node.glob("hugepages/*/*"):
            counter.write_text("512\n")
    error = stage.cli.refused(3, "run", stage.image, *arguments)
    assert error["code"] == code
    assert stage.launches() == 1


@pytest.mark.parametrize(
    ("arguments", "code", "told", "hint"),
    [
        (("--memory", "1"), 2, "expected a whole number from 64", ""),
        (("--cid", "3"), 2, "expected a whole number from 4 ", ""),
        (("--cid", "4294967295"), 2, "", ""),
        (("--cid", "0"), 2, "", ""),
        (("--memory", "99999999"), 2, "", ""),
    ],
)
def test_values_that_cannot_be(
    stage: NitroStage, arguments: Sequence[str], code: int, told: str, hint: str
) -> None:
    assert stage.launches() == 0
    error = stage.run_refused(code, *arguments)
    assert told in error["message"]
    assert hint in (error["hint"] or "")
    if code == 2:
        assert stage.launches() == 0


def test_an_address_that_is_in_use(stage: NitroStage) -> None:
    stage.ran("--name", "first", "--cid", "20")
    error = stage.run_refused(6, "--name", "second", "--cid", "20")
    assert error["code"] == "cid-in-use"
    assert "first" in error["message"]
    error = stage.run_refused(6, "--name", "first")
    assert "exists already" in error["message"]
    assert stage.launches() == 1
    # One that somebody else launched, with nitro-cli itself.
    other = stage.host.launch("--enclave-cid", "30")
    error = stage.run_refused(6, "--name", "second", "--cid", "30")
    assert error["code"] == "cid-in-use"
    assert other["EnclaveName"] in error["message"]


def test_an_image_that_is_not_its_locks(stage: NitroStage) -> None:
    lock = stage.host.lock.read_bytes()
    write_image(stage.image, b"another")
    stage.host.lock.write_bytes(lock)
    error = stage.run_refused(6)
    assert error["code"] == "lock-pcrs"
    assert "PCR0" in error["message"]
    assert "enclavectl" in error["hint"]
    assert stage.launches() == 0


def test_an_image_that_is_none(stage: NitroStage) -> None:
    stage.image.write_text("no image\n" * 100)
    assert stage.launches() == 0
    stage.run_refused(2)
    error = stage.cli.refused(6, "run", *MEMORY)  # no enclave.eif here
    assert "enclavectl build" in error["hint"]
    error = stage.cli.refused(2, "run", stage.host.home / "absent.eif", *MEMORY)
    assert "absent.eif" in error["message"]
    stage.assert_only([])


def test_a_full_disk_leaves_no_copy_behind(stage: NitroStage) -> None:
    """A bound on the size of a file stands for the disk's end: the write is refused half way."""
    stage.image.write_bytes(stage.image.read_bytes() + bytes(1 << 20))
    bound = 256 * 1024
    full = replace(
        stage.cli,
        options={"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bound, bound))},
    )
    ran = full.run("run", stage.image, *MEMORY, "-o", "json")
    error = json.loads(ran.stdout)["error"]
    assert (ran.code, error["exit_code"]) == (3, 3)
    assert "File too large" in error["message"]
    assert list((stage.cli.state / "nitro" / "images").iterdir()) == []
    assert stage.launches() == 0
    stage.assert_only([])


def test_two_launches_at_once_take_turns(stage: NitroStage) -> None:
    stage.host.hold("boot")
    first = stage.run("--name", "first")
    wait_until(lambda: stage.launches() == 1, "the first one launches")
    second = stage.run("--name", "second")
    second.await_err("waiting")
    assert stage.launches() == 1
    stage.host.let_go("boot")
    assert [one.end().code for one in (first, second)] == [0, 0]
    assert stage.states() == {"first": "RUNNING", "second": "RUNNING"}


def test_a_launch_while_another_enclave_is_hashed(stage: NitroStage) -> None:
    """nitro-cli asks every enclave for its name at a launch; one that is hashed would be lost by that."""
    stage.host.hold("hash")
    stage.host.hold("boot")
    first = stage.run("--name", "first", "--no-wait")
    wait_until(lambda: stage.launches() == 1, "the first one launches")
    second = stage.run("--name", "second", "--no-wait")
    second.await_err("waiting")
    stage.host.let_go("boot")
    wait_until(lambda: "Received command: describe" in stage.host.read_log(), "the first one is hashed")
    # Long enough for a launch to ask for names, give up after 3 s, and be on its way.
    time.sleep(6)
    stage.host.let_go("hash")
    for one in (first, second):
        ended = one.end()
        assert ended.code == 0, ended.stderr
    assert stage.states() == {"first": "RUNNING", "second": "RUNNING"}
    assert stage.host.enclaves() == [16, 17]


def test_list_waits_while_an_enclave_is_hashed(stage: NitroStage) -> None:
    stage.host.hold("hash")
    run = stage.run("--name", "first", "--no-wait")
    wait_until(lambda: "Received command: describe" in stage.host.read_log(), "it is hashed")
    listing = Terminal(stage.cli.start("list", "-o", "json"))
    listing.await_err("waiting")
    killed = Terminal(stage.cli.start("list"))
    killed.await_err("waiting")
    killed.process.kill()
    killed.end()
    interrupted = Terminal(stage.cli.start("list"))
    interrupted.await_err("waiting")
    interrupted.press_ctrl_c()
    assert interrupted.end().code == 130
    stage.host.let_go("hash")
    [shown] = json.loads(listing.end().stdout)["enclaves"]
    assert shown["state"] == "RUNNING"
    assert run.end().code == 0
    assert stage.host.enclaves() == [16]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_list_that_is_ended_while_it_talks_loses_no_enclave(stage: NitroStage, how: signal.Signals) -> None:
    """Another user's enclave, which no keeper of ours has settled."""
    stage.host.hold("hash")
    stage.host.launch()
    listing = Terminal(stage.cli.start("list"))
    wait_until(lambda: "Received command: describe" in stage.host.read_log(), "it is hashed")
    listing.process.send_signal(how)
    assert listing.end().code == (130 if how is signal.SIGINT else -signal.SIGKILL)
    second = Terminal(stage.cli.start("list"))
    second.await_err("waiting")
    stage.host.let_go("hash")
    assert second.end().code == 0
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
        wait_until(lambda: "Received command: describe" in stage.host.read_log(), "it is hashed")
    else:
        wait_until(lambda: stage.states().get("first") == "RUNNING", "it has booted")
    run.process.send_signal(how)
    ended = run.end()
    assert ended.code == (130 if how is signal.SIGINT else -signal.SIGKILL)
    if how is signal.SIGINT and stage_of_run == "boot":
        assert "ends by itself" in ended.stderr
    if stage_of_run != "application":
        stage.host.let_go(stage_of_run)
    stage.assert_only([])
    assert stage.states() == {}


def test_an_enclave_that_dies_right_after_its_boot(stage: NitroStage) -> None:
    stage.host.set(application_s=3600, dies_after_s=1)
    error = stage.run_refused(5, "--name", "first", "--debug")
    assert "first" in error["message"]
    assert "serving model" in error["message"]  # its last words
    error = stage.run_refused(5, "--name", "first")
    assert "--debug" in error["hint"]


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
    stage.host.set(driver_error="An error has occurred: 16 (rc: -1)", driver_error_times=1)
    run = stage.run("--name", "second")
    ended = run.end()
    assert ended.code == 0, ended.stderr
    assert "trying once more" in ended.stderr


def test_others_enclaves_are_shown_and_left_alone(stage: NitroStage) -> None:
    stage.host.set(user="alice")
    hers = stage.host.launch("--enclave-name", "hers")
    stage.host.set(user="bob")
    stage.ran("--name", "his")
    assert stage.states() == {"hers": "RUNNING", "his": "RUNNING"}
    error = stage.cli.refused(3, "terminate", "hers")
    assert error["hint"]
    assert stage.cli.run("terminate", "--all").code == 3
    assert stage.host.enclaves() == [hers["EnclaveCID"]]
    stage.host.set(user="root")
    stage.host.run("terminate-enclave", "--all")


@pytest.mark.parametrize("version", ["1.1.0", "1.2.2", "1.4.2", "1.5.2"])
def test_every_release_is_served(stage: NitroStage, version: str) -> None:
    stage.host.set(version=version)
    stage.ran("--name", "first")
    assert stage.states() == {"first": "RUNNING"}
    stage.cli.ok("diagnose", sample("nv"))
    stage.cli.ok("terminate", "--all")


def test_a_host_for_production_refuses_debug_mode(stage: NitroStage) -> None:
    production = replace(stage.cli, variables={**stage.cli.variables, "ENCLAVECTL_PROFILE": "production"})
    error = production.refused(2, "run", stage.image, *MEMORY, "--debug")
    assert "production" in error["message"]
    error = production.refused(2, "send", "--unsafe-allow-debug", sample("nv"))
    assert stage.launches() == 0
