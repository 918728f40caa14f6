"""What is left to a process that has locked itself down, each in a process of its own."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from enclave_payload import lockdown
from enclave_payload.lockdown import Missing

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


def test_a_parent_that_is_gone_is_an_end() -> None:
    code = "from enclave_payload.lockdown import lock_down; lock_down(1 << 30, memory_bytes=1 << 30, cpu_s=9)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "the parent is gone" in ran.stderr


MACHINES = ("x86_64", "aarch64")


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_decides_by_machine_number_and_argument(machine: str) -> None:
    """Run by a small interpreter of the four instructions that it has: no aarch64 is at hand."""
    column, arch = lockdown._ARCHITECTURES[machine]
    allowed = {numbers[column] for numbers in lockdown._ALLOWED.values()}
    guarded = {numbers[column] for numbers in lockdown._ALLOWED_WITHOUT_EXEC.values()}
    for number in range(500):
        for protection in (0, 1, 3):
            expected = lockdown._RETURN_ALLOW if number in allowed | guarded else lockdown._RETURN_ERRNO | 1
            assert decided(machine, arch, number, protection) == expected
        for protection in (4, 5, 7):
            expected = lockdown._RETURN_ALLOW if number in allowed else lockdown._RETURN_ERRNO | 1
            assert decided(machine, arch, number, protection) == expected
    assert decided(machine, arch ^ 1, min(allowed), 0) == lockdown._RETURN_KILL
    # The numbers of x32 programs, which have the same architecture.
    assert decided(machine, arch, min(allowed) | 0x40000000, 0) == lockdown._RETURN_ERRNO | 1


def decided(machine: str, arch: int, number: int, third: int) -> int:
    data = struct.pack("<iIQ6Q", number, arch, 0, 0, 0, third, 0, 0, 0)
    code: list[tuple[int, int, int, int]] = list(struct.iter_unpack("<HBBI", lockdown._program(machine)))
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
    table = lockdown._ALLOWED | lockdown._ALLOWED_WITHOUT_EXEC
    assert {name: pair[column] for name, pair in table.items()} == {name: numbers[name] for name in table}
