"""nitro-cli as a process: its surroundings, its lock, and that nothing kills it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from enclavectl.errors import HostError, StateError
from enclavectl.nitro_cli.environment import build_environment, nitro_environment
from enclavectl.nitro_cli.hostlock import WaitNotes, host_lock
from enclavectl.nitro_cli.tool import NitroCli
from tests.nitro_cli.words import error

# Both outputs are scripted; it writes down what it was given.
SCRIPT = """#!/bin/sh
env > "{folder}/environment"; pwd > "{folder}/cwd"
case "$1" in --version) echo 'Nitro CLI 1.1.0'; exit 0;; esac
{body}
"""


class Heard:
    """Keeps what was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        raise AssertionError(f"no progress to tell: {what} {elapsed_s} {bound_s}")


def scripted(folder: Path, body: str, **environ: str) -> Mapping[str, str]:
    for name in ("bin", "sockets", "logs"):
        (folder / name).mkdir()
    program = folder / "bin" / "nitro-cli"
    program.write_text(SCRIPT.format(folder=folder, body=body))
    program.chmod(0o755)
    return {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder),
        "NITRO_CLI_SOCKETS_PATH": str(folder / "sockets"),
        "NITRO_CLI_LOGS_PATH": str(folder / "logs"),
        **environ,
    }


def test_nothing_of_ours_reaches_nitro_cli(tmp_path: Path) -> None:
    environ = scripted(tmp_path, "echo '[]'", AWS_SECRET_ACCESS_KEY="s", TOKEN="t", RUST_LOG="debug")
    with (tmp_path / "other").open("wb"):
        assert NitroCli(environ).describe().enclaves == ()
    environment = (tmp_path / "environment").read_text()
    assert "BACKTRACE=1" in environment
    assert "RUST_LOG=debug" in environment
    assert "HOME=" in environment
    assert "AWS_SECRET" not in environment
    assert "TOKEN" not in environment
    assert (tmp_path / "cwd").read_text() == "/\n"


def test_secrets_are_for_kms_only() -> None:
    environ = {"AWS_PROFILE": "p", "https_proxy": "x", "DOCKER_HOST": "d", "OTHER": "o"}
    assert set(nitro_environment(environ)) == {"PATH", "LANG", "BACKTRACE"}
    assert "AWS_PROFILE" not in build_environment(environ, uses_kms=False)
    signing = build_environment(environ, uses_kms=True)
    assert {"AWS_PROFILE", "https_proxy", "DOCKER_HOST"} <= set(signing)
    assert "OTHER" not in signing


def test_partial_results_are_kept(tmp_path: Path) -> None:
    one = (
        '{"EnclaveID": "i-1-enc2", "ProcessID": 1, "EnclaveCID": 16, "NumberOfCPUs": 1, "CPUIDs": [1], '
        '"MemoryMiB": 64, "State": "RUNNING", "Flags": "NONE"}'
    )
    (tmp_path / "err").write_text("Failed connections: 1\n" + error("E39"))
    body = f"""echo '[{one}, {{"EnclaveID": 7}}]'; cat '{tmp_path}/err' >&2; exit 39"""
    described = NitroCli(scripted(tmp_path, body)).describe()
    assert [found.run.enclave_id for found in described.enclaves] == ["i-1-enc2"]
    assert described.unreachable == 2  # one did not answer, one cannot be read


@pytest.mark.parametrize(("code", "kind"), [("E07", HostError), ("E11", StateError)])
def test_failures_are_errors(tmp_path: Path, code: str, kind: type[Exception]) -> None:
    (tmp_path / "err").write_text(error(code))
    cli = NitroCli(scripted(tmp_path, f"cat '{tmp_path}/err' >&2; exit {int(code[1:])}"))
    with pytest.raises(kind, match=code):
        cli.describe()
    with pytest.raises(kind, match=code):
        cli.terminate("i-1-enc2")


def test_an_answer_that_is_none(tmp_path: Path) -> None:
    cli = NitroCli(scripted(tmp_path, "echo nonsense"))
    assert cli.describe().enclaves == ()  # nothing on standard output is no enclave
    with pytest.raises(HostError, match="terminate-enclave: expected a JSON object"):
        cli.terminate("i-1-enc2")


def test_a_host_that_is_not_set_up(tmp_path: Path) -> None:
    environ = scripted(tmp_path, "echo '[]'")
    (tmp_path / "sockets").rmdir()
    with pytest.raises(HostError) as caught:
        NitroCli(environ).describe()
    assert caught.value.code == "nitro-not-set-up"
    with pytest.raises(HostError, match="not on the PATH"):
        _ = NitroCli({"PATH": str(tmp_path)}).program


def test_long_output_on_both_streams_does_not_block(tmp_path: Path) -> None:
    body = "for stream in 1 2; do head -c 1000000 /dev/zero | tr '\\0' ' ' >&$stream; done; echo '[]'"
    assert NitroCli(scripted(tmp_path, body)).describe().enclaves == ()


def until_it_is_let_go(folder: Path) -> str:
    return f"until [ -e '{folder}/go' ]; do sleep 0.01; done; echo '[]'"


def test_what_describe_is_given_to_do_is_done_meanwhile(tmp_path: Path) -> None:
    cli = NitroCli(scripted(tmp_path, until_it_is_let_go(tmp_path)))
    assert cli.describe(meanwhile=(tmp_path / "go").touch).enclaves == ()


def test_ctrl_c_meanwhile_leaves_describe_to_finish_as_well(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    heard = Heard()
    cli = NitroCli(scripted(tmp_path, until_it_is_let_go(tmp_path)), heard)
    with pytest.raises(KeyboardInterrupt):
        cli.describe(meanwhile=interrupt)
    assert heard.notes == [
        "nitro-cli describe-enclaves goes on by itself: ending it now could end an enclave"
    ]
    (tmp_path / "go").touch()
    with host_lock(tmp_path / "sockets", "test", Heard()):
        pass  # it has ended: the lock was its own


def test_whoever_holds_the_lock_is_waited_for_and_that_is_told(tmp_path: Path) -> None:
    heard = Heard()
    entered = threading.Event()
    leave = threading.Event()

    def hold() -> None:
        with host_lock(tmp_path, "launch", Heard()):
            entered.set()
            leave.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(60)

    def let_go() -> None:
        while not heard.notes:
            time.sleep(0.01)
        leave.set()

    threading.Thread(target=let_go).start()
    with host_lock(tmp_path, "launch", heard, on_wait=lambda: heard.note("what is known")):
        assert leave.is_set()
    holder.join()
    assert heard.notes[0].startswith("waiting for another launch on this host")
    assert heard.notes[1] == "what is known"
    assert heard.notes.count("what is known") == 1
    assert list(tmp_path.iterdir()) == []  # no file of ours: terminate --all deletes what it does not know


def test_a_wait_is_told_after_a_moment_and_then_each_half_minute() -> None:
    notes = WaitNotes("launch")
    told = [tenth / 10 for tenth in range(1000) if notes.note_at(tenth / 10) is not None]
    assert told == [0.3, 30.3, 60.3, 90.3]
    assert WaitNotes("launch").note_at(12.3) == "waiting for another launch on this host (12 s)"


@pytest.mark.parametrize("is_link", [False, True])
def test_one_folder_for_logs_and_sockets_is_one_lock(tmp_path: Path, *, is_link: bool) -> None:
    """As flock has it, the second of two locks on one folder would wait for the first, for ever."""
    environ = dict(scripted(tmp_path, "echo '[]'"))
    if is_link:
        (tmp_path / "logs").rmdir()
        (tmp_path / "logs").symlink_to("sockets")
    else:
        environ["NITRO_CLI_LOGS_PATH"] = environ["NITRO_CLI_SOCKETS_PATH"]
    heard = Heard()
    cli = NitroCli(environ, heard)
    with cli.launch_locked(gives_up=lambda: bool(heard.notes)):  # else the test would never end
        assert cli.describe().enclaves == ()
        with pytest.raises(BlockingIOError), host_lock_now(tmp_path / "sockets"):
            pass
    with host_lock_now(tmp_path / "sockets"):
        pass
    assert cli.describe().enclaves == ()
    assert heard.notes == []


def test_two_folders_are_two_locks(tmp_path: Path) -> None:
    cli = NitroCli(scripted(tmp_path, "echo '[]'"))
    with cli.launch_locked(gives_up=lambda: False):
        with host_lock_now(tmp_path / "sockets"):
            pass  # list need not wait for a boot
        assert cli.describe().enclaves == ()


INTERRUPTED = """
import os, sys
from enclavectl.nitro_cli.tool import NitroCli

class Told:
    def note(self, text): print(text, flush=True)
    def update(self, what, elapsed_s, bound_s): pass

try:
    NitroCli(os.environ, Told()).describe()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_leaves_a_describe_to_finish_and_the_lock_with_it(tmp_path: Path) -> None:
    body = (
        f"touch '{tmp_path}/begun'; while [ ! -e '{tmp_path}/go' ]; do sleep 0.02; done; "
        f"echo '[]' && touch '{tmp_path}/finished'"
    )
    environ = scripted(tmp_path, body)
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], env=environ, stdout=subprocess.PIPE, start_new_session=True
    )
    until((tmp_path / "begun").exists)
    try:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        out, _ = process.communicate(timeout=60)
        assert out.decode().splitlines() == [
            "nitro-cli describe-enclaves goes on by itself: ending it now could end an enclave",
            "interrupted",
        ]
        # It still talks to the enclaves, so nobody else may.
        with pytest.raises(BlockingIOError), host_lock_now(tmp_path / "sockets"):
            pass
    finally:
        (tmp_path / "go").touch()
    until((tmp_path / "finished").exists)
    with host_lock(tmp_path / "sockets", "talk", Heard()):
        pass


@contextlib.contextmanager
def host_lock_now(folder: Path) -> Iterator[None]:
    """The lock, or BlockingIOError if somebody has it."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
