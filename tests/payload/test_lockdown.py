"""What is left to a process that has locked itself down, each in a process of its own."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from enclave_payload import lockdown
from enclave_payload.lockdown import Missing
from tests.payload.decoders import MODEL_DIR

PRELUDE = """
import ctypes, errno, mmap, os, resource, signal, socket, sys, threading
from enclave_payload.lockdown import lock_down
libc = ctypes.CDLL(None, use_errno=True)
null = open("/dev/null", "rb")
missing = lock_down(os.getppid(), memory_bytes=256 << 20, cpu_s=60)
"""


def locked(code: str) -> str:
    """What ``code`` writes after it was locked down."""
    ran = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_nothing_is_missing_on_this_kernel() -> None:
    assert locked("print(int(missing))") == f"{int(Missing.NOTHING)}\n"


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd')",
        "open('/dev/null', 'w')",
        "os.listdir('/')",
        "os.stat('/')",
        "socket.socket()",
        "socket.socket(socket.AF_VSOCK)",
        "socket.socketpair()",
        "os.fork()",
        "os.kill(os.getppid(), 0)",
        "os.execv('/bin/true', ['true'])",
        "os.pipe()",
        "os.dup(0)",
        "os.memfd_create('x')",
        "os.setresuid(0, 0, 0)",
        "os.unshare(0) if hasattr(os, 'unshare') else os.chroot('/')",
        "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
        "mmap.mmap(null.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE)",
    ],
)
def test_it_may_not(attempt: str) -> None:
    code = (
        f"try:\n    {attempt}\nexcept OSError as exc:\n    print(errno.errorcode[exc.errno])\n"
        "else:\n    print('may')"
    )
    assert locked(code) == "EPERM\n"


def test_it_may_not_start_a_thread() -> None:
    code = "try:\n    threading.Thread(target=print).start()\nexcept RuntimeError as exc:\n    print(exc)"
    assert locked(code) == "can't start new thread\n"


def test_it_may_not_make_memory_code_later() -> None:
    code = (
        "page = mmap.mmap(-1, 4096); place = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "print(libc.mprotect(ctypes.c_void_p(place), 4096, 7), errno.errorcode[ctypes.get_errno()])"
    )
    assert locked(code) == "-1 EPERM\n"


def test_its_memory_is_bounded() -> None:
    code = (
        "try:\n    bytearray(300 << 20)\nexcept MemoryError:\n    print('no')\n"
        "print(len(bytearray(99 << 20)))"
    )
    assert locked(code) == f"no\n{99 << 20}\n"


def test_its_limits_are_set() -> None:
    """Seen from outside: asking is a call that is not on the list."""
    code = "print('locked', flush=True)\nos.read(0, 1)\n"
    argv = [sys.executable, "-c", PRELUDE + code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        limits = Path(f"/proc/{child.pid}/limits").read_text()
        child.kill()
    found = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    for name, value in {
        "Max open files": "1",
        "Max file size": "0",
        "Max processes": "0",
        "Max core file size": "0",
        "Max cpu time": "60",
    }.items():
        assert found[name] == [value, value]


ZYGOTE = """
import ctypes, errno, mmap, os, resource, signal, socket, sys, threading
from enclave_payload.lockdown import lock_down, lock_down_zygote
libc = ctypes.CDLL(None, use_errno=True)
ours, theirs = socket.socketpair()
missing = lock_down_zygote()
"""


def zygote(code: str) -> str:
    """What ``code`` writes where weights are parsed."""
    argv = [sys.executable, "-c", ZYGOTE + code]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_nothing_is_missing_where_weights_are_parsed() -> None:
    assert zygote("print(int(missing))") == f"{int(Missing.NOTHING)}\n"


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/dev/null', 'w')",
        "open('/tmp/made-by-weights', 'x')",
        "os.unlink('/tmp/made-by-weights')",
        "socket.socket()",
        "socket.socket(socket.AF_VSOCK)",
        "socket.socketpair()",
        "os.execv('/bin/true', ['true'])",
        "os.setresuid(0, 0, 0)",
        "os.kill(-1, 0)",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CORE)",
        "os.unshare(0x10000000) if hasattr(os, 'unshare') else os.chroot('/')",
        "os.pipe()",
        "os.memfd_create('x')",
        "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    ],
)
def test_weights_that_take_over_the_zygote_may_not(attempt: str) -> None:
    code = (
        f"try:\n    {attempt}\nexcept OSError as exc:\n    print(errno.errorcode[exc.errno])\n"
        "else:\n    print('may')"
    )
    assert zygote(code) == "EPERM\n"


@pytest.mark.parametrize("name", ["ptrace", "process_vm_readv", "ioctl", "clone3", "pidfd_open", "bpf"])
def test_no_call_leads_from_the_zygote_to_the_key_holder(name: str) -> None:
    """The numbers are x86-64's: ptrace(PTRACE_ATTACH) and process_vm_readv would read its memory."""
    number = {
        "ptrace": 101,
        "process_vm_readv": 310,
        "ioctl": 16,
        "clone3": 435,
        "pidfd_open": 434,
        "bpf": 321,
    }
    if os.uname().machine != "x86_64":
        pytest.skip("its numbers are x86-64's")
    code = f"print(libc.syscall({number[name]}, 16, os.getppid(), 0, 0, 0, 0), ctypes.get_errno())"
    assert zygote(code) == "-1 1\n"


def test_the_zygote_makes_no_namespace() -> None:
    """clone(CLONE_NEWUSER | SIGCHLD), x86-64's or aarch64's: root in it would be root over its files."""
    number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    code = f"print(libc.syscall({number}, 0x10000000 | 17, 0, 0, 0, 0), ctypes.get_errno())"
    assert zygote(code) == "-1 1\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root is anybody else")
def test_the_zygote_is_nobody_and_reads_nothing_of_root(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    memory = f"/proc/{os.getpid()}/mem"
    for path in (str(secret), memory):
        code = f"try:\n    open({path!r}, 'rb')\nexcept PermissionError:\n    print(os.getuid())"
        assert zygote(code) == "65534\n"


def test_every_thread_of_the_zygote_is_locked_down() -> None:
    """Threads share memory: what one may do, another can have it do."""
    code = "[open(f'/proc/self/task/{one.native_id}/status').read() for one in threading.enumerate()]"
    waits = "wait = threading.Event()\nthreading.Thread(target=wait.wait, daemon=True).start()\nmissing = "
    ran = subprocess.run(
        [sys.executable, "-c", ZYGOTE.replace("missing = ", waits) + f"print(*{code})"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = [line.split() for line in ran.stdout.splitlines()]
    assert found.count(["Seccomp:", "2"]) == found.count(["NoNewPrivs:", "1"]) == 2


def test_a_fork_of_the_zygote_gives_up_the_rest() -> None:
    code = """
parent = os.getpid()
if os.fork() == 0:
    missing = lock_down(parent, memory_bytes=256 << 20, cpu_s=60)
    try:
        open('/proc/self/statm')
    except OSError as exc:
        os.write(theirs.fileno(), bytes([missing, exc.errno]))
    os._exit(0)
print(*ours.recvmsg(2)[0], os.wait()[1])
"""
    assert zygote(code) == "0 1 0\n"


TAKEN_OVER = """
import os, socket, sys
from pathlib import Path
from enclave_payload import pipeline
from enclave_payload.decoder import Decoders
from enclave_payload.limits import Limits
key_holder = os.getpid()
class TakenOver:
    def __init__(self, card, weights):
        found = [len(weights)]
        for attempt in (
            lambda: open(f"/proc/{key_holder}/maps", "w"),
            lambda: open(os.devnull, "w"),
            lambda: socket.socket(),
            lambda: os.execv("/bin/true", ["true"]),
        ):
            try:
                attempt()
            except OSError as exc:
                found.append(exc.errno)
        raise pipeline.UnfitError(found)
pipeline.Pipeline = TakenOver
Decoders(Path(sys.argv[1]), Limits()).start(1, print)
"""


def test_weights_are_parsed_in_a_process_that_is_locked_down() -> None:
    argv = [sys.executable, "-c", TAKEN_OVER, str(MODEL_DIR)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    size = (MODEL_DIR / "model.tflite").stat().st_size
    assert f"the model cannot be loaded: [{size}, 1, 1, 1, 1]" in ran.stderr


def test_a_parent_that_is_gone_is_an_end() -> None:
    code = "from enclave_payload.lockdown import lock_down; lock_down(1 << 30, memory_bytes=1 << 30, cpu_s=9)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "the parent is gone" in ran.stderr


MACHINES = ("x86_64", "aarch64")


FILTERS = {"decoder": lockdown._DECODER, "reader": lockdown._READER, "zygote": lockdown._ZYGOTE}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("who", FILTERS)
def test_the_filter_decides_by_machine_number_and_argument(who: str, machine: str) -> None:
    """Run by a small interpreter of the four instructions that it has: no aarch64 is at hand."""
    column, arch = lockdown._ARCHITECTURES[machine]
    allowed = {numbers[column] for numbers in FILTERS[who][0].values()}
    guarded = {row[column]: row[2:] for row in FILTERS[who][1].values()}
    program = lockdown._program(machine, *FILTERS[who])
    allow, refuse = lockdown._RETURN_ALLOW, lockdown._RETURN_ERRNO | 1
    for number in range(500):
        place, bits = guarded.get(number, (0, 0))
        for bit in (1 << at for at in range(32)):
            is_allowed = number in allowed or (number in guarded and not bit & bits)
            assert decided(program, arch, number, place, bit) == (allow if is_allowed else refuse)
    assert decided(program, arch ^ 1, min(allowed)) == lockdown._RETURN_KILL
    # The numbers of x32 programs, which have the same architecture.
    assert decided(program, arch, min(allowed) | 0x40000000) == refuse


def decided(program: bytes, arch: int, number: int, place: int = 0, argument: int = 0) -> int:
    arguments = [0] * 6
    arguments[place] = argument
    data = struct.pack("<iIQ6Q", number, arch, 0, *arguments)
    code: list[tuple[int, int, int, int]] = list(struct.iter_unpack("<HBBI", program))
    assert len(code) <= 4096
    at = value = 0
    while True:
        step, if_true, if_false, constant = code[at]
        at += 1
        match step:
            case 0x20:
                value = int.from_bytes(data[constant : constant + 4], "little")
            case 0x15:
                at += if_true if value == constant else if_false
            case 0x45:
                at += if_true if value & constant else if_false
            case 0x06:
                return constant
            case _:
                raise AssertionError(f"unknown instruction {step:#x}")


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_are_those_of_the_kernel_headers(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text())
    numbers = {name: int(number) for name, number in found}
    column = lockdown._ARCHITECTURES[machine][0]
    allowed, guarded = FILTERS["zygote"]
    table = {name: row[column] for name, row in (allowed | guarded).items()}
    # The generic table has dup3 alone, and the other name.
    numbers = {"dup2": numbers["dup3"], "newfstatat": numbers.get("fstatat", 0), **numbers}
    assert table == {name: numbers[name] for name in table}
