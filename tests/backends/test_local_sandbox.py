"""Each row of the sandbox's table in docs/threat-model.md: the attack is tried from inside.

The sandbox is set once and for good, so each test runs it in a process of its own, and with fewer layers as
on lesser kernels.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from enclavectl.backends.local.sandbox import Layer, missing_layers, sandbox_line

# Attacks say what they got. A refusal is an OSError, or NameError where even a module cannot be imported.
PRELUDE = """
import ctypes, os, resource, signal, socket, subprocess, sys
from pathlib import Path
from enclavectl.backends.local.sandbox import *
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
folder = Path({folder!r})
missing = enter(Plan(512, folder / "tree", (folder / "model",)), without={without!r})
assert set(missing) <= set({without!r}) | {{Layer.FILE_TREE}}, missing
"""
ALL: tuple[Layer, ...] = ()
NO_NAMESPACES = (Layer.NAMESPACES,)
SECCOMP_ONLY = (Layer.NAMESPACES, Layer.LANDLOCK)
LANDLOCK_ONLY = (Layer.NAMESPACES, Layer.SECCOMP)
NAMESPACES_ONLY = (Layer.LANDLOCK, Layer.SECCOMP)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An enclave's folder, with a secret of the user's beside it."""
    for name in ("tree", "model"):
        (tmp_path / "enclave" / name).mkdir(parents=True)
    (tmp_path / "enclave" / "model" / "model.json").write_text("the card")
    (tmp_path / "secret").write_text("the key")
    (tmp_path / "secret").chmod(0o600)
    return tmp_path / "enclave"


def run(folder: Path, code: str, without: tuple[Layer, ...] = ()) -> subprocess.CompletedProcess[str]:
    names = tuple(str(layer) for layer in without)
    return subprocess.run(
        [sys.executable, "-I", "-c", PRELUDE.format(folder=str(folder), without=names) + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
    )


def is_supported(without: tuple[Layer, ...]) -> bool:
    """Find out what this kernel gives, so that a lesser one skips and says so."""
    code = (
        "import tempfile; from enclavectl.backends.local.sandbox import *; from pathlib import Path\n"
        f"plan = Plan(512, Path(tempfile.mkdtemp()), ()); without = {tuple(map(str, without))!r}\n"
        "print(set(enter(plan, without)) - {*without} - {Layer.FILE_TREE if without else ''} == set())"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout == "True\n"


@pytest.fixture(scope="module", params=[ALL, NO_NAMESPACES, SECCOMP_ONLY, LANDLOCK_ONLY, NAMESPACES_ONLY])
def layers(request: pytest.FixtureRequest) -> tuple[Layer, ...]:
    """Kernels, as the layers that they lack."""
    without: tuple[Layer, ...] = request.param
    if not is_supported(without):
        pytest.skip(f"this kernel lacks more than {', '.join(without) or 'nothing'}")
    return without


def attack(folder: Path, code: str, without: tuple[Layer, ...]) -> str:
    """Try it; return "got through" or the name of the refusal."""
    indented = "".join(f"    {line}\n" for line in code.splitlines())
    ran = run(
        folder,
        f"try:\n{indented}except (OSError, ImportError) as error:\n    print(type(error).__name__)\n"
        "else:\n    print('got through')\n",
        without,
    )
    return ran.stdout.strip() or f"died: {ran.returncode} {ran.stderr[-300:]}"


def holds(without: tuple[Layer, ...], *by: Layer) -> bool:
    """Return whether one of the layers that stop an attack is there."""
    return any(layer not in without for layer in by)


def test_reading_a_private_file_of_the_user(folder: Path, layers: tuple[Layer, ...]) -> None:
    got = attack(folder, f"open({str(folder.parent / 'secret')!r}).read()", layers)
    assert (got != "got through") is holds(layers, Layer.NAMESPACES, Layer.LANDLOCK), got


def test_listing_the_users_folders(folder: Path, layers: tuple[Layer, ...]) -> None:
    got = attack(folder, f"assert os.listdir({str(folder.parent)!r})", layers)
    is_stopped = got != "got through"
    # In a tree of its own the folder is there, with nothing but what was bound below.
    if Layer.NAMESPACES not in layers and Layer.LANDLOCK in layers:
        ran = run(folder, f"print(sorted(os.listdir({str(folder.parent)!r})))", layers)
        assert ran.stdout == "['enclave']\n"
    else:
        assert is_stopped is holds(layers, Layer.LANDLOCK), got


@pytest.mark.parametrize(
    "code",
    [
        "os.unlink({secret!r})",
        "os.rename({secret!r}, {secret!r} + '2')",
        "os.close(os.open({secret!r}, os.O_WRONLY | os.O_TRUNC))",
        "os.chmod({secret!r}, 0o644)",
        "os.mkdir({secret!r} + '2')",
        "os.close(os.open({secret!r} + '2', os.O_WRONLY | os.O_CREAT))",
    ],
)
def test_deleting_and_changing_files(folder: Path, layers: tuple[Layer, ...], code: str) -> None:
    got = attack(folder, code.format(secret=str(folder.parent / "secret")), layers)
    by = {Layer.NAMESPACES, Layer.SECCOMP}
    if "chmod" not in code:  # which Landlock does not handle
        by.add(Layer.LANDLOCK)
    assert (got != "got through") is holds(layers, *by), got
    if holds(layers, *by):
        assert (folder.parent / "secret").read_text() == "the key"
        assert (folder.parent / "secret").stat().st_mode & 0o777 == 0o600
        assert sorted(path.name for path in folder.parent.iterdir()) == ["enclave", "secret"]


def test_writing_into_what_it_may_read(folder: Path, layers: tuple[Layer, ...]) -> None:
    card = folder / "model" / "model.json"
    got = attack(folder, f"os.write(os.open({str(card)!r}, os.O_WRONLY), b'x')", layers)
    is_stopped = holds(layers, Layer.FILE_TREE, Layer.SECCOMP, Layer.LANDLOCK)
    assert (got != "got through") is is_stopped, got
    assert (card.read_text() == "the card") is is_stopped


def test_starting_a_program(folder: Path, layers: tuple[Layer, ...]) -> None:
    got = attack(folder, "os.execv('/bin/true', ['true'])", layers)
    started = not got.startswith(("PermissionError", "FileNotFoundError"))
    assert started is not holds(layers, Layer.NAMESPACES, Layer.SECCOMP, Layer.LANDLOCK), got


def test_connecting_to_a_socket_of_the_machine(folder: Path, layers: tuple[Layer, ...]) -> None:
    """As that of the Docker engine."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(folder.parent / "docker.sock"))
        engine.listen()
        path = str(folder.parent / "docker.sock")
        got = attack(folder, f"socket.socket(socket.AF_UNIX).connect({path!r})", layers)
    assert (got != "got through") is holds(layers, Layer.NAMESPACES, Layer.SECCOMP), got


def test_connecting_to_an_abstract_socket(folder: Path, layers: tuple[Layer, ...]) -> None:
    name = f"\0enclavectl-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        got = attack(folder, f"socket.socket(socket.AF_UNIX).connect({name!r})", layers)
    assert (got != "got through") is holds(layers, Layer.NAMESPACES, Layer.SECCOMP, Layer.LANDLOCK), got


def test_reaching_the_network(folder: Path, layers: tuple[Layer, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        got = attack(folder, f"socket.create_connection(('127.0.0.1', {port}))", layers)
    assert (got != "got through") is holds(layers, Layer.NAMESPACES, Layer.SECCOMP, Layer.LANDLOCK), got


def test_signalling_another_process(folder: Path, layers: tuple[Layer, ...]) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as victim:
        got = attack(folder, f"os.kill({victim.pid}, signal.SIGTERM)", layers)
        ended = victim.poll() if got != "got through" else victim.wait(10)
        with suppress(ProcessLookupError):
            victim.kill()
    stopped = holds(layers, Layer.NAMESPACES, Layer.LANDLOCK)
    assert (ended is None, got != "got through") == (stopped, stopped), got


@pytest.mark.parametrize("group", [0, -1])
def test_signalling_everybody(folder: Path, group: int) -> None:
    assert attack(folder, f"os.kill({group}, 0)", SECCOMP_ONLY) == "PermissionError"


def test_looking_into_another_process(folder: Path, layers: tuple[Layer, ...]) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as victim:
        # PTRACE_ATTACH
        code = (
            f"libc.ptrace.restype = ctypes.c_long\n"
            f"if libc.ptrace(16, {victim.pid}, 0, 0) != 0: raise OSError(ctypes.get_errno(), 'refused')"
        )
        got = attack(folder, code, layers)
        victim.kill()
    assert (got != "got through") is holds(layers, Layer.NAMESPACES, Layer.SECCOMP, Layer.LANDLOCK), got


@pytest.mark.parametrize("number", [165, 250, 321, 298, 425, 272, 323, 161, 175], ids=str)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_calls_that_the_kernel_should_not_get(folder: Path, number: int) -> None:
    """Mount, keyctl, bpf, perf_event_open, io_uring_setup, unshare, userfaultfd, chroot, init_module."""
    ran = run(
        folder,
        f"libc.syscall({number}, 0, 0, 0, 0, 0); print(ctypes.get_errno())",
        SECCOMP_ONLY,
    )
    assert ran.stdout == "1\n", ran.stderr


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
@pytest.mark.parametrize("number", [435, 451, 470, 2**30 + 39], ids=["clone3", "451", "470", "x32"])
def test_calls_that_the_filter_cannot_judge_do_not_exist(folder: Path, number: int) -> None:
    ran = run(folder, f"libc.syscall({number}, 0, 0); print(ctypes.get_errno())", SECCOMP_ONLY)
    assert ran.stdout == "38\n", ran.stderr


def test_new_namespaces(folder: Path, layers: tuple[Layer, ...]) -> None:
    """They would bring capabilities back."""
    got = attack(folder, "if libc.unshare(0x10000000): raise OSError(1, 'refused')", layers)
    if Layer.SECCOMP not in layers:
        assert got == "PermissionError"


def test_no_capability_and_no_way_to_one(folder: Path, layers: tuple[Layer, ...]) -> None:
    ran = run(
        folder,
        "data = ctypes.create_string_buffer(24)\n"
        "libc.capget(b'\\x22\\x05\\x08\\x20\\0\\0\\0\\0', data)\n"
        "print(data.raw == bytes(24), libc.prctl(39, 0, 0, 0, 0), libc.prctl(3, 0, 0, 0, 0))",
        layers,
    )
    assert ran.stdout == "True 1 0\n", ran.stderr  # PR_GET_NO_NEW_PRIVS, PR_GET_DUMPABLE


def test_other_processes_cannot_even_be_seen(folder: Path) -> None:
    if not is_supported(ALL):
        pytest.skip("this kernel lacks a layer")
    ran = run(folder, "print(os.getpid(), os.getppid(), os.path.exists('/proc/1'))")
    assert ran.stdout == "1 0 False\n", ran.stderr


def test_what_the_payload_needs_works(folder: Path, layers: tuple[Layer, ...]) -> None:
    """Libraries, the model, threads, forks without a new program, signals within, shared memory."""
    ran = run(
        folder,
        "import mmap, threading, numpy, sqlite3\n"
        f"card = open({str(folder / 'model' / 'model.json')!r}).read()\n"
        "threading.Thread(target=lambda: None).start()\n"
        "shared, (here, there) = mmap.mmap(-1, 4096), socket.socketpair()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    here.close(); shared[:2] = b'ok'; there.send(b'x'); there.recv(1); os._exit(0)\n"
        "here.recv(1)\n"
        "os.kill(child, signal.SIGKILL)\n"
        "os.waitpid(child, 0); os.open('/dev/null', os.O_RDONLY)\n"
        "print(card, shared[:2], len(os.urandom(8)), numpy.ones(3).sum())",
        layers,
    )
    assert ran.stdout == "the card b'ok' 8 3.0\n", ran.stderr


def test_limits_hold(folder: Path, layers: tuple[Layer, ...]) -> None:
    ran = run(
        folder,
        "import resource as r\n"
        "print([r.getrlimit(x) for x in (r.RLIMIT_AS, r.RLIMIT_NOFILE, r.RLIMIT_FSIZE, r.RLIMIT_CORE)])",
        layers,
    )
    assert ran.stdout == f"{[(512 * 2**20,) * 2, (256, 256), (16 * 2**20,) * 2, (0, 0)]}\n", ran.stderr


def test_a_hard_limit_below_ours_stays(folder: Path) -> None:
    """``ulimit`` of a session or a service; raising it is an error for everybody but root."""
    code = (
        "import resource as r\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 100)); r.setrlimit(r.RLIMIT_AS, (300 << 20, 300 << 20))\n"
        f"{PRELUDE.format(folder=str(folder), without=())}"
        "print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_AS))"
    )
    argv = [sys.executable, "-I", "-c", code]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == f"(100, 100) {(300 << 20,) * 2}\n", ran.stderr


def test_too_much_memory_is_refused(folder: Path) -> None:
    assert run(folder, "bytearray(600 * 2**20)").stderr.endswith("MemoryError\n")


def test_its_end_is_the_end_of_who_stands_for_it(folder: Path, layers: tuple[Layer, ...]) -> None:
    """The supervisor sees how the payload ended, also from outside of its process namespace."""
    assert run(folder, "raise SystemExit(7)", layers).returncode == 7
    if not {Layer.NAMESPACES, Layer.SECCOMP} & set(layers):
        ran = run(folder, "signal.signal(signal.SIGALRM, lambda *_: sys.exit(9)); signal.raise_signal(14)")
        assert ran.returncode == 9


def test_sigterm_reaches_it_from_its_first_moment_on(folder: Path, layers: tuple[Layer, ...]) -> None:
    code = PRELUDE.format(folder=str(folder), without=tuple(map(str, layers)))
    code += "print('ready', flush=True); signal.pause()"
    argv = [sys.executable, "-I", "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(60) in (-15, 128 + 15)
        assert process.stdout.read() == "", "nobody holds the other end any more"


@pytest.mark.parametrize("without", [ALL, NO_NAMESPACES])
def test_it_dies_with_its_parent(folder: Path, without: tuple[Layer, ...]) -> None:
    code = (
        "import os, sys, time\n"
        "from enclavectl.backends.local.sandbox import die_with_parent\n"
        "parent = os.getpid()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    die_with_parent(parent)\n"
        + "".join(
            f"    {line}\n"
            for line in PRELUDE.format(folder=str(folder), without=tuple(map(str, without))).splitlines()
        )
        + "    print('ready', flush=True)\n"
        "    time.sleep(600)\n"
        "os.waitpid(child, 0)\n"
    )
    with subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        # The child holds the other end of this pipe: its end is the child's.
        assert parent.stdout.read() == b""


def test_without_its_parent_it_does_not_start() -> None:
    code = "from enclavectl.backends.local.sandbox import die_with_parent; die_with_parent(1 << 30)"
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert "the supervisor is gone" in ran.stderr
    assert ran.returncode != 0


def test_the_console_says_what_is_missing() -> None:
    assert sandbox_line({}) == "sandbox: complete"
    assert missing_layers(f"payload: {sandbox_line({})}\nserving\n") is None
    missing = {Layer.NAMESPACES: "Operation not permitted", Layer.FILE_TREE: "needs namespaces"}
    assert sandbox_line(missing) == (
        "sandbox: without namespaces (Operation not permitted); file tree (needs namespaces)"
    )
    assert missing_layers(f"payload: {sandbox_line(missing)}\nserving\n") == (
        "namespaces (Operation not permitted); file tree (needs namespaces)"
    )
