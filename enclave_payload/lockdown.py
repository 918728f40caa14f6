"""What is given up for good: by a decoder before it sees a picture, by its zygote before it parses weights.

A system call that is not on the list fails with EPERM. It does not kill: a library that asks for something
harmless, such as the number of processors, goes on without, whatever its version; and to whoever owns the
decoder a call that fails is as good as none.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
from enum import IntFlag
from pathlib import Path
from typing import TypeAlias

_NOBODY = 65534
# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
# include/uapi/linux/seccomp.h, filter.h, bpf_common.h and audit.h
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_RETURN_KILL, _RETURN_ERRNO, _RETURN_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06  # of 32 bits; compared with a constant
# struct seccomp_data, little-endian: the low half of an argument is enough for flags.
_AT_NUMBER, _AT_ARCH, _AT_ARGUMENTS = 0, 4, 16
_PROT_EXEC = 4
# O_WRONLY, O_RDWR, O_CREAT and O_TRUNC of include/uapi/asm-generic/fcntl.h; O_TMPFILE implies one of them.
_TO_WRITE = 0o1103
# CLONE_NEWNS and the six other kinds that clone takes (include/uapi/linux/sched.h): a namespace of one's own
# gives the privileges back.
_NAMESPACES = 0x7E020000

# AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64; the order of the numbers below.
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# The numbers of a call, and of an argument with the bits that it may not have.
_Calls: TypeAlias = dict[str, tuple[int, int]]
_GuardedCalls: TypeAlias = dict[str, tuple[int, int, int, int]]
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
# Allowed unless an argument has one of these bits: memory that would become code.
_GUARDED = {"mmap": (9, 222, 2, _PROT_EXEC), "mprotect": (10, 226, 2, _PROT_EXEC)}
# To read files besides, as TFLite does to learn what the processor can.
_READING = {
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "lseek": (8, 62),
}
_GUARDED_READING = {"openat": (257, 56, 2, _TO_WRITE)}
_SECCOMP = (317, 277)
# To fork decoders besides, hand them what comes for them, and bury them; and what they still do themselves.
_FORKING = {
    "seccomp": _SECCOMP,
    "recvmsg": (47, 212),
    "sendto": (44, 206),
    "wait4": (61, 260),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "gettid": (186, 178),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "fcntl": (72, 25),
    "dup2": (33, 24),  # aarch64 has dup3 alone
    "close_range": (436, 436),
    "prctl": (157, 167),
    "uname": (63, 160),
}
_GUARDED_FORKING = {
    "clone": (56, 220, 0, _NAMESPACES),
    "kill": (62, 129, 0, 1 << 31),  # no group, and not all
    "prlimit64": (302, 261, 0, (1 << 32) - 1),  # its own alone
}
# What each may still do.
_DECODER = (_ALLOWED, _GUARDED)
_READER = (_ALLOWED | _READING, _GUARDED | _GUARDED_READING)
_ZYGOTE = (_READER[0] | _FORKING, _READER[1] | _GUARDED_FORKING)


class Missing(IntFlag):
    """What could not be given up on this kernel. Sent to the key holder in one byte."""

    NOTHING = 0
    SECCOMP = 1
    PRIVILEGES = 2
    LIMITS = 4


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def lock_down_zygote() -> Missing:
    """Give up, before weights are parsed, what reading files and forking decoders does not take.

    What is given up here, decoders never had; they give up the rest with ``lock_down``.
    """
    missing = _drop_privileges()
    _end_with_parent()
    return missing | _forbid(*_ZYGOTE)


def lock_down_reader() -> Missing:
    """Give up what reading this user's files does not take, to parse weights where there is no enclave."""
    return _forbid(*_READER)


def lock_down(parent_pid: int, *, memory_bytes: int, cpu_s: int) -> Missing:
    """Give everything up but the open descriptors; ``memory_bytes`` come on top of what is mapped now.

    Raises:
        OSError: the parent is gone.
    """
    missing = _drop_privileges() | _limit(memory_bytes, cpu_s)
    _end_with_parent()
    if os.getppid() != parent_pid:
        raise OSError(errno.ESRCH, "the parent is gone")
    return missing | _forbid(*_DECODER)


def _end_with_parent() -> None:
    """After the privileges: changing them clears this."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


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
        try:
            lower_limit(limit, wanted)
        except (OSError, ValueError):
            missing = Missing.LIMITS
    return missing


def lower_limit(limit: int, wanted: int) -> None:
    """Bound one of ``resource``'s limits for good. A hard limit that is narrower stays: it bounds as well.

    Raises:
        OSError, ValueError: this kernel does not take it.
    """
    hard = resource.getrlimit(limit)[1]
    bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(limit, (bound, bound))


def _mapped_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    except OSError:  # no /proc: where images are built
        return 1 << 30
    return pages * os.sysconf("SC_PAGESIZE")


def _forbid(allowed: _Calls, guarded: _GuardedCalls) -> Missing:
    """Have every other call fail in all threads of this process, and in what they start, for good."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        return Missing.SECCOMP
    code = _program(machine, allowed, guarded)
    program = _Program(len(code) // 8, code)
    # Not prctl, which binds the calling thread alone: a library may have started others in this memory.
    numbers = (_SECCOMP[_ARCHITECTURES[machine][0]], _SET_MODE_FILTER, _ALL_THREADS)
    done = libc.syscall(*map(ctypes.c_long, numbers), ctypes.byref(program))
    return Missing.NOTHING if done == 0 else Missing.SECCOMP


def _program(machine: str, allowed: _Calls, guarded: _GuardedCalls) -> bytes:
    """Write the filter in the kernel's classic BPF.

    https://docs.kernel.org/userspace-api/seccomp_filter.html
    """
    column, arch = _ARCHITECTURES[machine]
    allow = _step(_RETURN, _RETURN_ALLOW)
    refuse = _step(_RETURN, _RETURN_ERRNO | errno.EPERM)
    # Numbers mean other calls in another architecture, such as that of 32-bit programs.
    code = [_step(_LOAD, _AT_ARCH), _step(_JUMP_EQUAL, arch, 1), _step(_RETURN, _RETURN_KILL)]
    code.append(_step(_LOAD, _AT_NUMBER))
    for numbers in allowed.values():
        code += [_step(_JUMP_EQUAL, numbers[column], 0, 1), allow]
    for *pair, argument, bits in guarded.values():
        look = [_step(_LOAD, _AT_ARGUMENTS + 8 * argument), _step(_JUMP_SET, bits, 0, 1), refuse, allow]
        code += [_step(_JUMP_EQUAL, pair[column], 0, len(look)), *look]
    return b"".join([*code, refuse])


def _step(code: int, constant: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Write a struct sock_filter; the jumps count instructions from the next one."""
    return struct.pack("<HBBI", code, if_true, if_false, constant)
