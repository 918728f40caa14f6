"""Real parts: the backend qemu with the image that ``build`` wrote, through its commands alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from enclavectl.image.kernel import find_compiler
from tests.cli.command import Done, enclavectl
from tests.image.engine import BASE_IMAGE, docker_environment
from tests.image.guest import qemu_parts

pytestmark = [pytest.mark.qemu, pytest.mark.docker, pytest.mark.timeout(900)]

SAMPLES = Path(__file__).parents[2] / "samples"
_WAIT_S = 60.0


class Place:
    """A home with an image, its lock, and the backend qemu in its configuration."""

    def __init__(self, home: Path) -> None:
        parts = qemu_parts()
        self.home = home
        self.image = home / "enclave.eif"
        self.state = home / "state"
        self.environ = {
            **docker_environment(),
            "ENCLAVECTL_BACKEND": "qemu",
            "ENCLAVECTL_QEMU_PROGRAM": str(parts.qemu),
            "ENCLAVECTL_STATE_DIR": str(self.state),
            "ENCLAVECTL_ENCLAVE_EIF": str(self.image),
            "ENCLAVECTL_ENCLAVE_MEMORY_MIB": "1024",
            "ENCLAVECTL_ENCLAVE_CPUS": "2",
            "ENCLAVECTL_DIAGNOSE_TIMEOUT_S": "120",
        }
        self.build(parts.kernel_root)

    def build(self, kernel_root: Path) -> None:
        done = self.run("kernel", "prepare", "--root", kernel_root, "--to", self.home / "blobs")
        assert done.status == 0, done.err
        lock = self.home / "enclavectl.lock.json"
        outputs = ["--to", self.image, "--lock", lock, "--blobs", self.home / "blobs"]
        done = self.run("build", "--base-image", BASE_IMAGE, *outputs)
        assert done.status == 0, done.err
        self.pcrs = json.loads(lock.read_text())["pcrs"]

    def run(self, *arguments: object) -> Done:
        return enclavectl(*arguments, "--output", "json", home=self.home, environ=self.environ, timeout_s=500)

    def processes(self) -> list[int]:
        """Every process that names this place on its command line: keepers and their QEMUs."""
        found = []
        for path in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if str(self.state).encode() in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
        return found

    def sockets(self) -> list[Path]:
        return [path for path in self.state.rglob("*") if path.is_socket()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("place"))
    yield made
    made.run("terminate", "--all")
    assert made.processes() == []


@pytest.fixture(scope="module")
def running(place: Place) -> str:
    done = place.run("run", "--name", "first")
    assert done.status == 0, done.err
    value = done.json()
    assert (value["trust"], value["backend"]) == ("emulated", "qemu")
    return "first"


def wait_until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_it_attests_the_locks_registers(place: Place, running: str) -> None:
    value = place.run("describe", running).json()
    assert value["attested"]["trust"] == "emulated"
    assert {f"PCR{index}": pcr for index, pcr in value["enclave"]["pcrs"].items()} == place.pcrs
    assert value["enclave"]["machine"]["cid"] == 16


def test_diagnose_answers_with_the_locks_registers(place: Place, running: str) -> None:
    done = place.run("diagnose", SAMPLES / "bcc.png")
    assert done.status == 0, done.err
    value = done.json()
    assert value["trust"] == "emulated"
    assert value["results"][0]["label"]["code"] == "bcc"
    assert {
        f"PCR{index}": pcr for index, pcr in value["evidence"]["pcrs"].items()
    }.items() >= place.pcrs.items()


def test_evidence_is_judged_by_a_policy_for_it_and_refused_by_every_other(
    place: Place, running: str, tmp_path: Path
) -> None:
    policy, evidence = tmp_path / "policy.yaml", tmp_path / "e.json"
    assert place.run("describe", running, "--policy-file", policy).status == 0
    assert "accept: [emulated]" in policy.read_text()
    assert place.run("attest", running, "--policy", policy, "--out", evidence).status == 0
    assert place.run("verify", evidence, "--policy", policy, "--at", "document").status == 0
    nitro = tmp_path / "nitro.yaml"
    nitro.write_text(policy.read_text().replace("emulated", "nitro"))
    for words in (("attest", running, "--out", tmp_path / "f.json"), ("verify", evidence)):
        assert place.run(*words, "--policy", nitro).status == 4
    address = place.run("describe", running).json()["enclave"]["address"]
    done = place.run("diagnose", "--connect", address, "--policy", nitro, SAMPLES / "nv.png")
    assert (done.status, done.error()["code"]) == (4, "cose-algorithm")
    # Whether the picture is answered depends on how busy this machine is; the evidence was accepted before.
    done = place.run("diagnose", "--connect", address, "--policy", policy, SAMPLES / "nv.png")
    assert done.json()["trust"] == "emulated"


def test_an_answer_comes_back_to_a_listener(place: Place, running: str) -> None:
    argv = [sys.executable, "-m", "enclavectl", "listen", "--count", "1", "--output", "json"]
    environ = {**os.environ, **place.environ, "HOME": str(place.home)}
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as listener:
        wait_until((place.state / "qemu" / "out-5006.sock").exists)
        try:
            assert place.run("send", SAMPLES / "mel.png").status == 0
            out, _ = listener.communicate(timeout=120)
        finally:
            listener.kill()
    assert json.loads(out.splitlines()[-1])["result"]["label"]["code"] == "mel"


def test_the_console_is_there_from_its_first_line(place: Place, running: str) -> None:
    done = enclavectl("console", running, home=place.home, environ=place.environ)
    lines = [line for line in done.out.splitlines() if re.match(r"20[0-9-]+T[0-9:.]+Z ", line)]
    assert "Linux version" in "\n".join(lines[:5])
    assert "serving model" in lines[-1]


def test_a_cid_in_use_is_refused_and_a_second_enclave_gets_the_next(place: Place, running: str) -> None:
    done = place.run("run", "--cid", "16", "--no-wait")
    assert (done.status, done.error()["code"]) == (6, "cid-in-use")
    done = place.run("run", "--name", "second", "--no-wait")
    assert done.status == 0, done.err
    assert done.json()["enclave"]["machine"]["cid"] == 17
    assert place.run("terminate", "second").status == 0
    names = [one["name"] for one in place.run("list").json()["enclaves"]]
    assert names == [running]
    assert place.run("history").json()["enclaves"][-1]["how"] == "terminated by enclavectl"


@pytest.mark.parametrize("whom", ["keeper", "qemu"])
def test_a_kill_of_either_process_leaves_nothing_that_runs(place: Place, whom: str) -> None:
    done = place.run("run", "--name", whom, "--no-wait")
    assert done.status == 0, done.err
    keeper = done.json()["enclave"]["pid"]
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    os.kill(keeper if whom == "keeper" else int(children[0]), signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (keeper, *children)))
    [state] = [one["state"] for one in place.run("list").json()["enclaves"] if one["name"] == whom]
    assert state == "DEAD"
    folder = place.state / "qemu" / "enclaves" / done.json()["enclave"]["id"]
    assert not [path for path in place.sockets() if folder in path.parents]
    assert place.run("terminate", whom).status == 0
    assert not folder.exists()


def test_an_interrupted_start_leaves_nothing(place: Place, running: str) -> None:
    before = set(place.processes())
    argv = [sys.executable, "-m", "enclavectl", "run", "--name", "gone"]
    environ = {**os.environ, **place.environ, "HOME": str(place.home)}
    with subprocess.Popen(argv, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as command:
        wait_until(lambda: len(place.processes()) > len(before) + 1)
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 130
    wait_until(lambda: set(place.processes()) == before)
    assert [one["name"] for one in place.run("list").json()["enclaves"] if one["name"] == "gone"] == []


def failed(place: Place, image: Path, *words: object) -> Done:
    before = place.processes()
    done = place.run("run", image, *words)
    wait_until(lambda: place.processes() == before)
    return done


def test_images_that_are_none_or_do_not_fit_are_refused(place: Place, tmp_path: Path) -> None:
    text = tmp_path / "text.eif"
    text.write_text("no image")
    assert failed(place, text).status == 2
    arm = tmp_path / "arm.eif"
    data = bytearray(place.image.read_bytes())
    data[6:8] = b"\0\1"  # flags: arm64
    arm.write_bytes(data)
    assert failed(place, arm).status == 2
    done = failed(place, place.image, "--memory", "128")
    assert (done.status, done.error()["code"]) == (2, "memory-below-image")


DOCKERFILE = "FROM scratch\nCOPY probe /probe\nCMD [{command}]\n"


@pytest.mark.parametrize(
    ("command", "code"), [('"/nowhere"', "command-not-found"), ('"/probe"', "payload-ended")]
)
def test_a_failed_boot_is_told_in_cause_fix_and_last_words(
    place: Place, tmp_path: Path, command: str, code: str
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    source = Path(__file__).with_name("probe.c")
    compiler = find_compiler(os.environ.get("PATH"))
    subprocess.run([compiler, "-static", "-Os", "-o", context / "probe", source], check=True, timeout=120)
    (context / "Dockerfile").write_text(DOCKERFILE.format(command=command))
    image = tmp_path / "i.eif"
    outputs = ["--to", image, "--lock", tmp_path / "i.lock.json", "--blobs", place.home / "blobs"]
    done = place.run("build", "--dockerfile", context, *outputs, "--allow", "command=this test")
    assert done.status == 0, done.err
    done = failed(place, image)
    assert done.status == 3, done.err
    error = done.error()
    assert error["code"] == code
    assert error["hint"]
    assert "its last words" in str(error["message"])
    shutil.rmtree(context)
