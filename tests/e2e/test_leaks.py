"""However a command or an enclave ends, nothing of it stays: no process, no folder, no socket, no secret."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, kill, sample, wait_until

# A person, a supervisor, and a terminal that closes.
ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
# Enough to be in the middle of for some seconds.
MANY = ["bcc", "nv", "mel", "df"] * 100


@contextmanager
def in_the_middle(cli: Cli, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A large batch whose first answers are there, and the processes of its enclave."""
    with cli.start("diagnose", *options, *map(sample, MANY)) as command:
        assert command.stdout is not None
        for _ in range(6):
            command.stdout.readline()
        processes = cli.processes()
        assert len(processes) == 2
        yield command, processes
        command.kill()


def test_the_command_is_killed(cli: Cli) -> None:
    with in_the_middle(cli) as (command, processes):
        command.kill()
        command.wait()
    cli.assert_nothing_left(processes)


def test_run_is_killed_before_its_enclave_has_proved_itself(cli: Cli) -> None:
    with cli.start("run", "--name", "unborn") as command:
        wait_until(lambda: len(cli.processes()) == 2, "both processes")
        processes = cli.processes()
        command.kill()
    cli.assert_nothing_left(processes)
    assert cli.ok("list", "-o", "json").json()["enclaves"] == []


@pytest.mark.parametrize("number", ENDINGS)
def test_the_command_is_told_to_stop(cli: Cli, number: signal.Signals) -> None:
    with in_the_middle(cli) as (command, processes):
        command.send_signal(number)
        _, stderr = command.communicate(timeout=90)
        assert command.returncode == 130
        told = r"^enclavectl: interrupted: \d+ of 400 pictures have a result$"
        assert re.search(told, stderr, re.MULTILINE)
    cli.assert_nothing_left(processes)


@pytest.mark.parametrize("victim", [0, 1], ids=["supervisor", "payload"])
def test_half_of_the_enclave_is_killed(cli: Cli, victim: int) -> None:
    """The batch goes on with another enclave, which the command starts, proves and ends like the first."""
    with in_the_middle(cli) as (command, processes):
        kill(processes[victim])
        stdout, stderr = command.communicate(timeout=100)
        assert command.returncode == 0, stderr
    assert "going on with another enclave" in stderr
    assert stdout.count(".png\n") >= len(MANY) - 6, "every picture has its line"
    cli.assert_nothing_left(processes)


def test_a_running_enclave_is_killed_under_a_batch(cli: Cli) -> None:
    cli.ok("run", "--name", "mortal")
    with in_the_middle(cli, "--enclave", "mortal") as (command, processes):
        kill(processes[1])
        stdout, _ = command.communicate(timeout=60)
        assert command.returncode == 5
    assert "enclavectl console" in stdout
    assert "signal 9" in cli.ok("console", "mortal").out


def test_the_enclave_is_terminated_under_a_batch(cli: Cli) -> None:
    cli.ok("run", "--name", "ending")
    with in_the_middle(cli, "--enclave", "ending") as (command, processes):
        cli.ok("terminate", "ending")
        cli.assert_nothing_left(processes)
        stdout, _ = command.communicate(timeout=60)
        assert command.returncode == 5
    assert "is stopping" in stdout or "the connection" in stdout or "stopped reading" in stdout


@pytest.mark.parametrize("number", ENDINGS)
def test_run_is_interrupted_while_the_enclave_boots(cli: Cli, number: signal.Signals) -> None:
    with cli.start("run", "--name", "early") as command:
        wait_until(lambda: bool(cli.processes()), "the supervisor starts")
        command.send_signal(number)
        _, stderr = command.communicate(timeout=60)
        assert command.returncode in {130, 0}, stderr
    if command.returncode == 0:
        pytest.skip("it was there before we could interrupt it")
    cli.assert_nothing_left()


@pytest.mark.parametrize("number", ENDINGS)
def test_listen_is_interrupted(cli: Cli, number: signal.Signals) -> None:
    with cli.start("listen") as command:
        assert command.stderr is not None
        assert "listening on" in command.stderr.readline()
        assert len(cli.sockets()) == 1
        command.send_signal(number)
        _, stderr = command.communicate(timeout=90)
        assert (command.returncode, stderr) == (130, "enclavectl: interrupted\n")
    cli.assert_nothing_left()


@pytest.mark.parametrize("number", ENDINGS)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_console_that_is_followed_is_interrupted(cli: Cli, number: signal.Signals, form: str) -> None:
    """What it wrote until then is printed, also in JSON, and the enclave goes on."""
    cli.ok("run", "--name", "watched")
    with cli.start("console", "--follow", "watched", "--output", form, "--save", "console.log") as command:
        wait_until(lambda: "serving model" in read(cli.base / "console.log"), "the console is read")
        command.send_signal(number)
        stdout, stderr = command.communicate(timeout=90)
        assert command.returncode == 130
    assert "enclavectl: interrupted\n" in stderr
    text = json.loads(stdout)["text"] if form == "json" else stdout
    assert "serving model" in text
    cli.ok("describe", "watched")


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_the_next_command_sweeps_up_what_a_double_kill_left(cli: Cli) -> None:
    with in_the_middle(cli) as (command, processes):
        kill(processes[0])
        command.kill()
        command.wait()
    wait_until(lambda: not cli.processes(), "the payload dies with its supervisor")
    cli.ok("diagnose", sample("nv"))
    cli.assert_nothing_left(processes)


def test_a_folder_that_a_killed_start_left_is_swept_up(cli: Cli) -> None:
    cli.ok("diagnose", sample("nv"))
    (cli.state / "local" / "enclaves" / "enc0000000000000000").mkdir(mode=0o700)
    assert cli.ok("list").out == ""
    cli.ok("diagnose", sample("nv"))
    cli.assert_nothing_left()


def all_bytes(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_no_picture_and_no_answer_is_on_disk(cli: Cli) -> None:
    cli.ok("run", "--name", "discreet")
    picture = sample("bcc").read_bytes()
    value = cli.ok("diagnose", sample("bcc"), "-o", "json").json()
    cli.ok("send", sample("bcc"))
    files = all_bytes(cli.base)
    for start in range(64, len(picture) - 64, len(picture) // 7):
        assert picture[start : start + 32] not in files
    for share in value["results"][0]["probabilities"].values():
        if share > 1e-6:
            assert str(round(share * 1e9)).encode() not in files
            assert str(share).encode() not in files
    console = cli.ok("console", "discreet").out
    assert str(sample("bcc")) not in console
    assert "PRIVATE KEY" in files.decode("latin-1"), (
        "the development root's, which is no secret of the enclave's"
    )
    assert files.count(b"PRIVATE KEY-----") == 2


def test_modes_keep_others_out(cli: Cli) -> None:
    cli.ok("run", "--name", "private")
    cli.ok("send", sample("nv"))
    local = cli.state / "local"
    secrets = [local / "root" / "key.pem", *(cli.state / "pending").iterdir(), *local.rglob("console.log")]
    assert len(secrets) == 3
    for path in (*secrets, *cli.sockets()):
        assert path.stat().st_mode & 0o777 == 0o600, path
    for path in (local, local / "root", cli.state / "pending", *cli.enclave_folders()):
        assert path.stat().st_mode & 0o777 == 0o700, path


def test_memory_and_environment_of_the_payload(cli: Cli) -> None:
    cli.ok("run", "--name", "bare")
    supervisor, payload = cli.processes()
    for pid in (supervisor, payload):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except PermissionError:
            assert pid == payload  # not dumpable, so not ours to look into
            continue
        names = {entry.split(b"=")[0] for entry in environment.split(b"\0") if entry}
        assert names <= {b"LANG", b"PATH", b"LC_CTYPE"}
    status = Path(f"/proc/{payload}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    if os.geteuid() == 0:
        descriptors = {str(entry.readlink()) for entry in Path(f"/proc/{payload}/fd").iterdir()}
        assert not [name for name in descriptors if name.startswith(str(cli.base))], descriptors
