"""The tutorial's walk-through, command by command, on every kind of host: docs/walkthrough.md shows it.

``local`` needs no image. ``fake`` and ``real`` are a nitro-cli whose enclaves are processes: the fake, and
AWS's own on a host in software. Behind ``real-qemu`` all is real but the hypervisor: a real build's image,
AWS's nitro-cli, and a machine of QEMU, whose documents a development root signs. ``qemu`` is the backend.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from enclavectl.artifacts.names import LOCK_NAME
from tests.e2e.built import Builder
from tests.e2e.cli import PATIENCE_S, Cli, sample
from tests.e2e.terminals import Terminal
from tests.host import trees
from tests.image.guest import qemu_parts
from tests.nitro.host import FakeHost, write_image
from tests.nitro.hosts import HOSTS, make_host, qemu_host
from tests.nitro.real_host.host import RealHost

CODES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
# The tutorial's commands for a fresh instance, in its order.
INSTALLS = {
    "al2": (
        "sudo amazon-linux-extras install docker -y",
        "sudo amazon-linux-extras install aws-nitro-enclaves-cli -y",
        "sudo yum install aws-nitro-enclaves-cli-devel -y",
    ),
    "al2023": (
        "sudo dnf install docker -y",
        "sudo dnf install aws-nitro-enclaves-cli -y",
        "sudo dnf install aws-nitro-enclaves-cli-devel -y",
    ),
}
SET_UP = (
    "sudo systemctl enable --now docker",
    "sudo usermod -aG ne ec2-user",
    "sudo usermod -aG docker ec2-user",
    "sudo systemctl restart nitro-enclaves-allocator.service",
    "sudo systemctl enable nitro-enclaves-allocator.service",
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the walk-through takes place. ``host`` is the Nitro host of the backend nitro."""

    cli: Cli
    backend: str
    host: FakeHost | None
    is_machine: bool = False

    @property
    def run_arguments(self) -> list[str]:
        """The tutorial's values: 8192 MiB, 4 CPUs, CID 16.

        An emulated machine gets as many CPUs as a small host has: with more, each waits for the others, and
        its pictures take more processor time than one may.
        """
        if self.backend == "local":
            return []
        size = ["2048", "--cpus", "2"] if self.is_machine else ["8192", "--cpus", "4"]
        return [str(self.cli.base / "enclave.eif"), "--memory", *size, "--cid", "16"]

    @property
    def trust(self) -> str:
        """What the evidence of an enclave without debug mode is worth here."""
        return "emulated" if self.backend == "qemu" else "simulated"

    @property
    def patience_s(self) -> float:
        """How long news of a command may take. A machine of QEMU thinks for longer than a process."""
        return 240 if self.is_machine else PATIENCE_S

    def terminal(self, *arguments: str | Path) -> Terminal:
        return Terminal(self.cli.start(*arguments), self.patience_s)


PROCESSES = ["local", *HOSTS]
MACHINE = pytest.param(
    "real-qemu",
    marks=[pytest.mark.nitro_cli, pytest.mark.qemu, pytest.mark.docker, pytest.mark.timeout(900)],
)
QEMU = pytest.param("qemu", marks=[pytest.mark.qemu, pytest.mark.docker, pytest.mark.timeout(900)])


@pytest.fixture(params=PROCESSES)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "home").mkdir()
    if request.param == "local":
        cli = Cli(tmp_path, variables={"ENCLAVECTL_BACKEND": "local"})
        yield Stage(cli, "local", None)
    elif request.param == "qemu":
        lay_out_built(request, tmp_path)
        variables = {"ENCLAVECTL_BACKEND": "qemu", "ENCLAVECTL_QEMU_PROGRAM": str(qemu_parts().qemu)}
        cli = Cli(tmp_path, variables=variables, timeout_s=600)
        yield Stage(cli, "qemu", None, is_machine=True)
    else:
        with walkthrough_host(request, tmp_path) as host:
            is_machine = request.param == "real-qemu"
            variables = {**host.environment, "ENCLAVECTL_BACKEND": "nitro"}
            cli = Cli(tmp_path, variables=variables, timeout_s=600 if is_machine else 90)
            yield Stage(cli, "nitro", host, is_machine)
            cli.end_all()
            assert host.enclaves() == []
            assert host.end() == []
    cli.end_all()
    cli.assert_nothing_left()


def lay_out_built(request: pytest.FixtureRequest, folder: Path) -> None:
    """Put the built image and its lock where the walk-through's commands look for them."""
    built: Path = request.getfixturevalue("built")
    os.link(built, folder / "enclave.eif")
    (folder / LOCK_NAME).write_bytes(built.with_name(LOCK_NAME).read_bytes())


@contextmanager
def walkthrough_host(request: pytest.FixtureRequest, folder: Path) -> Iterator[FakeHost]:
    """The host, with an image and its lock where the walk-through's commands look for them."""
    if request.param == "real-qemu":
        with qemu_host(folder / "host") as host:
            lay_out_built(request, folder)
            host.lock.write_bytes((folder / LOCK_NAME).read_bytes())
            yield host
        return
    with make_host(request.param, folder / "host") as host:
        shutil.copy(host.eif, folder / "enclave.eif")
        lock_value = json.loads(host.lock.read_text())
        lock_value["eif"]["file"] = "enclave.eif"
        (folder / LOCK_NAME).write_text(json.dumps(lock_value))
        yield host


def set_up(cli: Cli, system: str) -> None:
    """The tutorial's first page, on a recorded fresh instance: every command and change, and none is made."""
    tree = trees.fresh(cli.base / system, system)
    before = contents(tree)
    arguments = ("setup", "--dry-run", "--host-root", tree)
    value = cli.ok(*arguments, "-o", "json").json()
    assert (value["schema"], value["dry_run"], value["complete"]) == ("enclavectl.setup/1", True, False)
    lines = [line for step in value["steps"] for line in step["commands"]]
    assert lines == [*INSTALLS[system], *SET_UP]
    diffs = [step["diff"] for step in value["steps"] if step["diff"]]
    assert [diff.splitlines()[-3:] for diff in diffs] == [["+---", "+memory_mib: 8192", "+cpu_count: 4"]]
    shown = cli.ok(*arguments).out
    assert all(f"  $ {line}\n" in shown for line in lines)
    assert contents(tree) == before
    # And once it is set up: nothing is left to do, and the tutorial's enclave fits.
    ready = trees.healthy(cli.base / f"{system}-ready", system)
    again = cli.ok("setup", "--dry-run", "--host-root", ready, "-o", "json").json()
    assert ({step["state"] for step in again["steps"]}, again["complete"]) == ({"already"}, True)
    plan = ("plan", "enclave.eif", "--memory", "8192", "--cpus", "4", "--host-root", ready)
    assert cli.ok(*plan, "-o", "json").json()["fits"] is True
    assert cli.run("plan", *plan[2:-1], tree, "-o", "json").status == 3


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listen_and_send(stage: Stage) -> None:
    """Terminals 2 and 3, with the debug enclave of terminal 1."""
    cli = stage.cli
    # Terminal 2: the listener, which verifies whoever dials in.
    listener = stage.terminal("listen", "--unsafe-allow-debug", "--top", "1")
    listener.await_err("listening on ")
    listener.await_err("trust debug")

    # Terminal 3: pictures, again and again; each answer is shown as it arrives.
    for number, code in enumerate(CODES, 1):
        sent = cli.ok("send", "--unsafe-allow-debug", sample(code), "-o", "json").json()
        assert sent["trust"] == "debug"
        listener.await_out(f"\n  {code} ", 1)
        assert listener.out.count("%") == number
    sent = cli.ok("send", "--unsafe-allow-debug", *map(sample, CODES), "-o", "json").json()
    assert len(sent["results"]) == len(CODES)
    for code in CODES:
        listener.await_out(f"\n  {code} ", 2)

    # Both halves in one command, beside the listener.
    diagnosed = cli.ok("diagnose", "--unsafe-allow-debug", sample("mel"), "-o", "json").json()
    assert diagnosed["results"][0]["label"]["code"] == "mel"
    assert diagnosed["trust"] == "debug"
    assert listener.out.count("%") == 2 * len(CODES)

    listener.press_ctrl_c()
    ended = listener.end()
    assert ended.status == 130
    assert "DEBUG" in ended.out


@pytest.mark.parametrize("stage", [*PROCESSES, MACHINE], indirect=True)
def test_three_terminals_as_in_the_tutorial(stage: Stage) -> None:
    cli = stage.cli
    if stage.host is not None and not stage.host.is_real:
        for system in ("al2", "al2023"):
            set_up(cli, system)
    if stage.host is not None:
        checked = cli.ok("lock", "check", "-o", "json").json()
        assert checked["pcrs"] == json.loads(stage.host.lock.read_text())["pcrs"]

    # The parent runs an enclave in debug mode, and says so everywhere.
    started = cli.ok("run", *stage.run_arguments, "--debug", "--name", "skin", "-o", "json")
    value = started.json()
    assert (value["schema"], value["backend"], value["trust"]) == (
        *("enclavectl.enclave/1", stage.backend, "debug"),
    )
    assert value["enclave"]["debug"] is True
    assert "DEBUG MODE" in started.err
    assert [one["trust"] for one in cli.ok("list", "-o", "json").json()["enclaves"]] == ["debug"]

    # Terminal 1: the console, from the boot's first line on.
    console = stage.terminal("console", "skin", "--follow")
    console.await_out("serving model demo-lesion")
    if stage.host is not None:
        # A kernel says more than the hypervisor keeps until somebody reads: its first lines are lost.
        first = "Run /init as init process" if stage.is_machine else "Linux version"
        assert first in console.out
        assert "\x1b" not in console.out

    listen_and_send(stage)

    assert cli.ok("terminate", "skin").out == "terminated skin\n"
    assert console.end().status == 0
    assert cli.ok("list", "-o", "json").json()["enclaves"] == []
    [past] = cli.ok("history", "-o", "json").json()["enclaves"]
    assert (past["name"], past["backend"], past["trust"]) == ("skin", stage.backend, "debug")
    assert f"  {past['last_lines'][-1]}\n" in cli.ok("history").out
    assert "serving model demo-lesion" in cli.ok("logs", "skin").out


def answered_in_two_terminals(stage: Stage) -> dict[str, Any]:
    """Have pictures answered by send and listen, and by diagnose; return the evidence of that."""
    cli = stage.cli
    listener = stage.terminal("listen", "-o", "json", "--count", "2")
    listener.await_err(f"trust {stage.trust}")
    cli.ok("send", "--enclave", "skin", sample("nv"), sample("bkl"))
    ended = listener.end()
    assert ended.status == 0
    answers = [json.loads(line) for line in ended.out.splitlines()]
    assert {answer["result"]["label"]["code"] for answer in answers} == {"nv", "bkl"}
    assert {answer["trust"] for answer in answers} == {stage.trust}
    evidence: dict[str, Any] = cli.ok("diagnose", sample("df"), "-o", "json").json()["evidence"]
    return evidence


@pytest.mark.parametrize("stage", [*PROCESSES, MACHINE, QEMU], indirect=True)
def test_without_debug_mode_the_evidence_is_of_the_image(stage: Stage) -> None:
    cli = stage.cli
    value = cli.ok("run", *stage.run_arguments, "--name", "skin", "-o", "json").json()
    assert value["trust"] == stage.trust
    evidence = answered_in_two_terminals(stage)
    assert evidence["pcrs"]["0"] == value["enclave"]["pcrs"]["0"]
    if stage.backend != "local":
        lock = json.loads((cli.base / LOCK_NAME).read_text())
        assert evidence["pcrs"]["0"] == lock["pcrs"]["PCR0"]
    if stage.host is not None:
        error = cli.refused(6, "console", "skin")
        assert "--debug" in error["hint"]
    cli.ok("terminate", "skin")


@pytest.mark.parametrize("stage", [HOSTS[1], MACHINE], indirect=True)
def test_one_changed_byte_of_the_model_is_refused_before_a_picture_is_sent(
    stage: Stage, request: pytest.FixtureRequest
) -> None:
    """The host runs another image than the client's policy names; its own lock is a sound one."""
    cli, host = stage.cli, stage.host
    assert isinstance(host, RealHost)
    policy, image, lock = (cli.base / name for name in ("policy.yaml", "enclave.eif", LOCK_NAME))
    cli.ok("policy", "new", "--from-lock", lock, "--accept", "simulated", "--to", policy)
    if stage.is_machine:
        builder: Builder = request.getfixturevalue("builder")
        changed = builder.build_changed(builder.home / "changed")
    else:  # nothing in it boots, but it is measured
        changed = cli.base / "changed" / "enclave.eif"
        changed.parent.mkdir()
        write_image(changed, b"changed")
    image.unlink()
    os.link(changed, image)
    # Under the old lock it is not even started.
    assert cli.refused(6, "run", *stage.run_arguments)["code"] == "lock-pcrs"
    lock.write_bytes(changed.with_name(LOCK_NAME).read_bytes())
    cli.ok("run", *stage.run_arguments, "--name", "skin")
    before = host.sent_bytes
    for command in ("diagnose", "send"):
        error = cli.refused(4, command, "--policy", policy, sample("nv"))
        assert (error["code"], "PCR0" in error["message"]) == ("pcr-mismatch", True)
    # Two challenges, and nothing of the pictures.
    assert 0 < host.sent_bytes - before < 2048 < sample("nv").stat().st_size
    cli.ok("diagnose", sample("nv"))
    assert host.sent_bytes - before > sample("nv").stat().st_size
    cli.ok("terminate", "skin")


def test_a_listener_refuses_a_debug_enclave_and_goes_on(stage: Stage) -> None:
    cli = stage.cli
    listener = stage.terminal("listen", "--top", "1")
    listener.await_err("listening on ")
    cli.ok("run", *stage.run_arguments, "--debug", "--name", "loud")
    listener.await_err("(debug-mode)")
    cli.ok("terminate", "loud")
    cli.ok("run", *stage.run_arguments, "--name", "sound")
    listener.await_err("trust simulated")
    cli.ok("send", sample("vasc"))
    listener.await_out("vasc")
    listener.press_ctrl_c()
    assert listener.end().status == 130


def test_an_enclave_that_ends_and_another_that_dials_in(stage: Stage) -> None:
    """A listener outlives the enclaves: each that dials in proves itself anew."""
    cli = stage.cli
    listener = stage.terminal("listen", "--top", "1")
    listener.await_err("listening on ")
    for number, code in enumerate(("bcc", "df"), 1):
        cli.ok("run", *stage.run_arguments, "--name", "skin")
        listener.await_err("trust simulated", number)
        cli.ok("send", sample(code))
        listener.await_out(f"\n  {code} ")
        cli.ok("terminate", "skin")
    listener.press_ctrl_c()
    assert listener.end().status == 130
