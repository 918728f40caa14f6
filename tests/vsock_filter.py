"""Runs a command as in a container whose seccomp profile refuses vsock: ``vsock_filter.py ERRNO COMMAND...``.

Docker's default profile has been so since 20.10.22: socket(2) with AF_VSOCK returns EPERM, all else passes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

# socket(2) in the system call tables of the two architectures that have enclaves.
SOCKET_CALLS = {"x86_64": 41, "aarch64": 198}
IS_SUPPORTED = platform.machine() in SOCKET_CALLS and sys.platform == "linux"
AF_VSOCK = 40
# linux/prctl.h, linux/seccomp.h, linux/bpf_common.h
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000
CALL_NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse_vsock(errno: int) -> None:
    """Let socket(AF_VSOCK) fail with ``errno`` in this process and all that it starts."""
    rules = (
        (LOAD_WORD, 0, 0, CALL_NUMBER_AT),
        (JUMP_IF_EQUAL, 0, 3, SOCKET_CALLS[platform.machine()]),
        (LOAD_WORD, 0, 0, FIRST_ARGUMENT_AT),
        (JUMP_IF_EQUAL, 0, 1, AF_VSOCK),
        (RETURN, 0, 0, FAIL_WITH | errno),
        (RETURN, 0, 0, ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = Program(len(rules), ctypes.cast(code, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse_vsock(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
