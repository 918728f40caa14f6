"""The sandbox is set once and for good, so each test runs it in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PRELUDE = "from enclavectl.backends.local.sandbox import *; isolated = restrict(512)\n"


def run_restricted(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", PRELUDE + code], capture_output=True, text=True, timeout=60, check=False
    )


def test_limits_hold() -> None:
    ran = run_restricted(
        "import resource as r\n"
        "print([r.getrlimit(x) for x in (r.RLIMIT_AS, r.RLIMIT_NOFILE, r.RLIMIT_FSIZE, r.RLIMIT_CORE)])"
    )
    assert ran.stdout == f"{[(512 * 2**20,) * 2, (256, 256), (0, 0), (0, 0)]}\n", ran.stderr


def test_a_hard_limit_below_ours_stays() -> None:
    """``ulimit`` of a session or a service; raising it is an error for everybody but root."""
    code = (
        "import resource as r\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 100)); r.setrlimit(r.RLIMIT_AS, (300 << 20, 300 << 20))\n"
        f"{PRELUDE}"
        "print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_AS))"
    )
    argv = [sys.executable, "-I", "-c", code]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == f"(100, 100) {(300 << 20,) * 2}\n", ran.stderr


def test_too_much_memory_is_refused() -> None:
    assert run_restricted("bytearray(600 * 2**20)").stderr.endswith("MemoryError\n")


def test_no_file_is_written(tmp_path: object) -> None:
    ran = run_restricted(
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"open('{tmp_path}/x', 'wb', buffering=0).write(b'x')"
    )
    assert "File too large" in ran.stderr


def test_no_new_privileges_and_no_look_into_its_memory() -> None:
    ran = run_restricted(
        "status = open('/proc/self/status').read()\n"
        "print('NoNewPrivs:\\t1' in status, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    )
    assert ran.stdout == "True 0\n", ran.stderr


def test_where_it_says_so_the_network_is_gone() -> None:
    ran = run_restricted(
        "import socket\n"
        "names = [name for _, name in socket.if_nameindex()]\n"
        "sock = socket.socket()\n"
        "print(isolated, [n for n in names if n != 'lo'] if isolated else [], "
        "sock.connect_ex(('192.0.2.1', 9)) != 0 if isolated else True)"
    )
    assert ran.stdout in {"True [] True\n", "False [] True\n"}, ran.stderr


def test_it_dies_with_its_parent() -> None:
    code = (
        "import os, sys, time\n"
        "from enclavectl.backends.local.sandbox import die_with_parent\n"
        "parent = os.getpid()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    die_with_parent(parent)\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
        "os.waitpid(child, 0)\n"
    )
    with subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        # The child holds the other end of this pipe: its end is the child's.
        assert parent.stdout.read() == b""
    assert not Path(f"/proc/{child}/exe").exists()


def test_without_its_parent_it_does_not_start() -> None:
    code = "from enclavectl.backends.local.sandbox import die_with_parent; die_with_parent(1 << 30)"
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert "the supervisor is gone" in ran.stderr
    assert ran.returncode != 0
