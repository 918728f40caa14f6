"""What a decoder gives up for good before it sees a picture: files, sockets, processes, privileges.

A system call that is not on the list fails with EPERM. It does not kill: a library that asks for something
harmless, such as the number of processors, goes on without, whatever its version; and to whoever owns the
decoder a call that fails is as good as none.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import struct
from enum import IntFlag
from pathlib import Path

_NOBODY = 65534
# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
# include/uapi/linux/seccomp.h, filter.h, bpf_common.h and audit.h
_MODE_FILTER = 2
_RETURN_KILL, _RETURN_ERRNO, _RETURN_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06  # of 32 bits; compared with a constant
_AT_NUMBER, _AT_ARCH, _AT_THIRD_ARGUMENT = 0, 4, 32  # struct seccomp_data, little-endian
_PROT_EXEC = 4

# AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64; the order of the numbers below.
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# What decoding takes once everything is loaded: its one descriptor, memory, locks within the process, the
# clock, and an end. arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
_ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "close": (3, 57),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "gettimeofday": (96, 169),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
# Allowed unless the memory would become code.
_ALLOWED_WITHOUT_EXEC = {"mmap": (9, 222), "mprotect": (10, 226)}


class Missing(IntFlag):
    """What could not be given up on this kernel. Sent to the key holder in one byte."""

    NOTHING = 0
    SECCOMP = 1
    PRIVILEGES = 2
    LIMITS = 4


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def lock_down(parent_pid: int, *, memory_bytes: int, cpu_s: int) -> Missing:
    """Give everything up but the open descriptors; ``memory_bytes`` come on top of what is mapped now.

    Raises:
        OSError: the parent is gone.
    """
    # What the kernel kills first where the memory of all runs out. /proc is absent where images are built.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    missing = _drop_privileges() | _limit(memory_bytes, cpu_s)
    libc = ctypes.CDLL(None, use_errno=True)
    # After the privileges: changing them clears this.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise OSError(errno.ESRCH, "the parent is gone")
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return missing | _filter(libc)


def _drop_privileges() -> Missing:
    # The payload is root in an enclave. Elsewhere it is a user that could become no other.
    if os.getuid() != 0:
        return Missing.NOTHING
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        return Missing.PRIVILEGES
    return Missing.NOTHING


def _limit(memory_bytes: int, cpu_s: int) -> Missing:
    missing = Missing.NOTHING
    for limit, wanted in (
        (resource.RLIMIT_AS, _mapped_bytes() + memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_NOFILE, 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(limit, (bound, bound))
        except (OSError, ValueError):
            missing = Missing.LIMITS
    return missing


def _mapped_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:  # no /proc: where images are built
        return 1 << 30
    return pages * os.sysconf("SC_PAGESIZE")


def _filter(libc: ctypes.CDLL) -> Missing:
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        return Missing.SECCOMP
    code = _program(machine)
    program = _Program(len(code) // 8, code)
    done = libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)
    return Missing.NOTHING if done == 0 else Missing.SECCOMP


def _program(machine: str) -> bytes:
    """Write the filter in the kernel's classic BPF.

    https://docs.kernel.org/userspace-api/seccomp_filter.html
    """
    column, arch = _ARCHITECTURES[machine]
    allow = _step(_RETURN, _RETURN_ALLOW)
    refuse = _step(_RETURN, _RETURN_ERRNO | errno.EPERM)
    # Numbers mean other calls in another architecture, such as that of 32-bit programs.
    code = [_step(_LOAD, _AT_ARCH), _step(_JUMP_EQUAL, arch, 1), _step(_RETURN, _RETURN_KILL)]
    code.append(_step(_LOAD, _AT_NUMBER))
    for numbers in _ALLOWED.values():
        code += [_step(_JUMP_EQUAL, numbers[column], 0, 1), allow]
    for numbers in _ALLOWED_WITHOUT_EXEC.values():
        third = [_step(_LOAD, _AT_THIRD_ARGUMENT), _step(_JUMP_SET, _PROT_EXEC, 0, 1), refuse, allow]
        code += [_step(_JUMP_EQUAL, numbers[column], 0, len(third)), *third]
    return b"".join([*code, refuse])


def _step(code: int, constant: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Write a struct sock_filter; the jumps count instructions from the next one."""
    return struct.pack("<HBBI", code, if_true, if_false, constant)
