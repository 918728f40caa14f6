"""What does not fit on a Nitro host: refused before the launch, with the nearest that would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence

import pytest

from tests.e2e.cli import wait_until
from tests.e2e.nitro import MEMORY, NitroStage


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
    assert first.end().status == 0
    ended = third.end()
    error = json.loads(ended.out)["error"]
    assert (ended.status, error["code"]) == (3, "cpus-free")
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
