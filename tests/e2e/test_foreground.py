"""``run --foreground``, as a container has it: it stays, reaps, drains, and says how the enclave ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli import Cli, wait_until
from tests.e2e.nitro import MEMORY, NitroStage

ANNOUNCE = "ENCLAVECTL_GATEWAY_ANNOUNCE"


@dataclass(frozen=True, slots=True)
class Stays:
    """A ``run --foreground``, running."""

    process: subprocess.Popen[str]
    announced: Path

    def await_announced(self) -> dict[str, Any]:
        def is_there() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            return any(self._files())

        wait_until(is_there, "the enclave is announced")
        return self.announcement()

    def _files(self) -> list[Path]:
        # Not one that is being written: it gets its name when it is whole.
        return list(self.announced.glob("*.json"))

    def announcement(self) -> dict[str, Any]:
        [path] = self._files()
        value = json.loads(path.read_text())
        assert isinstance(value, dict)
        return value

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@contextmanager
def staying(cli: Cli, *arguments: str | Path, env: dict[str, str] | None = None) -> Iterator[Stays]:
    announced = cli.base / "announced"
    announced.mkdir(exist_ok=True)
    process = cli.start("run", *arguments, "--foreground", env={ANNOUNCE: str(announced), **(env or {})})
    try:
        yield Stays(process, announced)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_it_stays_until_sigterm_and_ends_the_enclave(cli: Cli) -> None:
    with staying(cli, "--name", "first") as stays:
        told = stays.await_announced()
        assert told["enclave"] == "first"
        listed = cli.ok("list", "-o", "json").json()["enclaves"]
        assert [(one["name"], one["state"], one["owned"]) for one in listed] == [("first", "RUNNING", False)]
        code, _out, err = stays.end()
    assert code == 0
    assert "first has ended" in err
    assert not list(stays.announced.iterdir())
    [entry] = cli.ok("history", "-o", "json").json()["enclaves"]
    assert "terminated" in entry["how"]
    cli.assert_nothing_left()


def test_it_ends_with_5_when_the_enclave_has_ended(stage: NitroStage) -> None:
    with staying(stage.cli, stage.image, *MEMORY, "--name", "one", "-o", "json") as stays:
        stays.await_announced()
        stage.host.end_guests()
        code, out, err = stays.ended()
    assert code == 5, err
    assert json.loads(out)["enclave"]["name"] == "one"
    assert "ended by itself" in err
    assert not list(stays.announced.iterdir())
    stage.assert_only([])


def test_it_dies_and_its_enclave_dies_with_it_and_the_name_is_free_again(stage: NitroStage) -> None:
    """A container that is killed: its next start has the same folders and must not stumble over them."""
    arguments = (stage.image, *MEMORY, "--name", "one")
    with staying(stage.cli, *arguments) as stays:
        stays.await_announced()
        stays.end(signal.SIGKILL)
    wait_until(lambda: not stage.host.enclaves(), "the enclave ends with it")
    for path in stays.announced.iterdir():
        path.unlink()
    with staying(stage.cli, *arguments) as stays:
        stays.await_announced()
        assert stays.end()[0] == 0
    stage.assert_only([])


def test_pods_boot_one_after_the_other_though_their_locks_do_not_meet(
    stage: NitroStage, tmp_path: Path
) -> None:
    """Each pod has its own folders of nitro-cli; vsock port 9000 is one per node."""
    stage.host.hold("boot")
    (tmp_path / "pod2" / "home").mkdir(parents=True)
    own = {}
    for variable, name in (("NITRO_CLI_LOGS_PATH", "log"), ("NITRO_CLI_SOCKETS_PATH", "run")):
        (tmp_path / "pod2" / name).mkdir()
        own[variable] = str(tmp_path / "pod2" / name)
    other = Cli(tmp_path / "pod2", variables={**stage.cli.variables, **own})
    with staying(stage.cli, stage.image, *MEMORY) as first:
        wait_until(lambda: stage.launches() == 1, "the first one boots")
        with staying(other, stage.image, *MEMORY) as second:
            wait_until(lambda: stage.launches() == 3, "the second one was refused, and has tried again")
            stage.host.let_go("boot")
            first.await_announced()
            second.await_announced()
            assert len(stage.host.enclaves()) == 2
            code, _out, err = second.end()
            assert (code, "vsock port 9000 is taken" in err) == (0, True), err
        assert first.end()[0] == 0
    other.assert_nothing_left()


def test_a_port_that_stays_taken_is_told_when_the_time_is_up(stage: NitroStage) -> None:
    stage.host.set(port_9000_taken=True)
    with staying(stage.cli, stage.image, *MEMORY, "--boot-wait", "12") as stays:
        code, _out, err = stays.ended()
    assert code == 3
    assert "vsock port 9000" in err
    assert "E36" in err
    assert stage.launches() > 1


def test_the_cpus_are_those_that_the_device_plugin_gave(stage: NitroStage) -> None:
    with staying(stage.cli, stage.image, "--memory", "1024", env={"NITRO_ENCLAVES_CPUS": "4"}) as stays:
        stays.await_announced()
        [enclave] = stage.cli.ok("list", "-o", "json").json()["enclaves"]
        assert enclave["machine"]["cpus"] == 4
        assert stays.end()[0] == 0


@pytest.mark.parametrize("other", ["--attach", "--no-wait"])
def test_what_contradicts_it_is_refused(cli: Cli, other: str) -> None:
    debug = ("--debug",) if other == "--attach" else ()
    error = cli.run("run", "--foreground", other, *debug)
    assert error.status == 2
    assert other in error.err


def test_a_drain_without_it_is_refused(cli: Cli) -> None:
    error = cli.run("run", "--drain", "5")
    assert (error.status, "--foreground as well" in error.err) == (2, True)


UNSHARE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def has_namespaces() -> bool:
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_namespaces(), reason="no namespaces here")
def test_as_the_first_process_it_reaps_what_others_leave_behind(cli: Cli) -> None:
    inside = Cli(cli.base, program=(*UNSHARE, *cli.program))
    with staying(inside, "--name", "first") as stays:
        stays.await_announced()
        [first] = children(stays.process.pid)
        into = ("nsenter", "--target", str(first), "--user", "--preserve-credentials", "--pid")
        subprocess.run([*into, "sh", "-c", "(sleep 0.2 & sleep 0.1 &)"], check=True)
        wait_until(lambda: "sleep" not in names(first), "the orphans are gone, not zombies")
        os.kill(first, signal.SIGTERM)
        code, _out, err = stays.ended()
    assert code == 0, err


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def names(pid: int) -> list[str]:
    found = []
    for one in children(pid):
        with suppress(OSError):  # it has just gone
            found.append(Path(f"/proc/{one}/comm").read_text().strip())
    return found
