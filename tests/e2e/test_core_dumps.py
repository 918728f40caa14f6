"""A command that holds pictures or keys leaves no copy of its memory, even where core dumps are wanted."""

from __future__ import annotations

import array
import fcntl
import os
import resource
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, sample, wait_until


def dumps_core(process: subprocess.Popen[str]) -> bool:
    """End the process as a crash would; its exit status says whether the kernel wrote a core."""
    os.kill(process.pid, signal.SIGABRT)
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_code == os.CLD_DUMPED


@pytest.fixture(autouse=True)
def wanted_cores(tmp_path: Path) -> Iterator[None]:
    """Core dumps without a limit for every process that the test starts."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    if before[1] != resource.RLIM_INFINITY:
        pytest.skip("this session may not raise RLIMIT_CORE")
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    try:
        require_core_dumps(tmp_path)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def require_core_dumps(tmp_path: Path) -> None:
    """Skip where the kernel writes none."""
    argv = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if not dumps_core(process):
            pytest.skip("this machine writes no core dumps (kernel.core_pattern)")


@pytest.mark.parametrize("command", ["diagnose", "send"])
def test_a_command_that_reads_a_picture_dumps_no_core(shared: Cli, command: str) -> None:
    with shared.start(command, "-") as process:
        assert process.stdin is not None
        unread = array.array("i", [os.write(process.stdin.fileno(), sample("bcc").read_bytes()[:4000])])

        def is_read() -> bool:
            fcntl.ioctl(process.stdin or 0, termios.FIONREAD, unread)
            return unread[0] == 0

        wait_until(is_read, "the command reads the picture")
        assert not dumps_core(process)


def test_a_listener_dumps_no_core(shared: Cli) -> None:
    with shared.start("listen") as process:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        assert not dumps_core(process)
    # Nobody could remove its socket; the next listener takes its place, and leaves nothing.
    shared.ok("listen", "--timeout", "0.5")


def test_the_program_that_has_the_models_key_dumps_no_core(shared: Cli) -> None:
    shared.ok("model", "seal", "demo-lesion", "--to", "core.sealed")
    (enclave,) = shared.ok("list", "-o", "json").json()["enclaves"]
    shared.ok("describe", enclave["name"], "--policy-file", "core.yaml")
    root = shared.state / "local" / "root" / "certificate.pem"
    rest = ("--policy", "core.yaml", "--root", root, "--listen", "unix:core.owner")
    with shared.start("model", "release", "core.key", *rest) as process:
        assert process.stderr is not None
        assert "waiting for enclaves" in process.stderr.readline()
        assert not dumps_core(process)


def test_the_supervisor_dumps_no_core(cli: Cli) -> None:
    """It holds the key of the development root."""
    pid = cli.ok("run", "-o", "json").json()["enclave"]["pid"]
    os.kill(pid, signal.SIGABRT)
    wait_until(lambda: not cli.processes(), "the enclave ends")
    assert not list(cli.state.rglob("core*"))
