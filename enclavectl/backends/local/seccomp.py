"""The system calls that the local payload may not make: a seccomp filter in classic BPF.

A list of what is refused, not of what is allowed: the interpreter, numpy and TFLite make other calls with
each of their versions, and an enclave that dies of an unknown one would protect nobody. Calls that came
after the table was written are refused as a whole.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import NamedTuple, TypeAlias

from enclavectl.backends.local.kernel import CLONE_NEWNS, install_filter

# include/uapi/linux/filter.h, seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_ARGUMENTS = 0, 4, 16
# CLONE_NEWTIME to CLONE_NEWNET: every flag of clone(2) that makes a namespace. include/uapi/linux/sched.h
_NAMESPACES = 0x7E020080 | CLONE_NEWNS
# include/uapi/asm-generic/fcntl.h: the flags of open(2) that make, empty or write a file.
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)
# 451, cachestat, of Linux 6.5: the first number that the table below has not looked at.
_FIRST_UNKNOWN = 451


class _Machine(NamedTuple):
    audit: int  # include/uapi/linux/audit.h
    column: int
    seccomp: int


# A call's number on each machine; None where it has no such call.
_Numbers: TypeAlias = tuple[int | None, int | None]
_MACHINES = {"x86_64": _Machine(0xC000003E, 0, 317), "aarch64": _Machine(0xC00000B7, 1, 277)}
# Numbers on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl) and arm64 (include/uapi/asm-generic/unistd.h).
_NEVER: dict[str, _Numbers] = {
    # Other programs and other processes.
    "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274), "sched_setparam": (142, 118),
    # Namespaces and mounts.
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97),
    "setns": (308, 268),
    # Parts of the kernel with a history of holes, or with power over the machine.
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "personality": (135, 92), "syslog": (103, 116), "vhangup": (153, 58),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18), "nfsservctl": (180, 42), "msgget": (68, 186), "semget": (64, 190),
    "shmget": (29, 194), "mq_open": (240, 180),
    # Sockets: the payload accepts, and is handed what it dials. socketpair(2) stays.
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    # Changes of files. What is written into one needs a file that is open for it, which open(2) refuses.
    "creat": (85, None), "truncate": (76, 45), "unlink": (87, None), "unlinkat": (263, 35),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mkdir": (83, None),
    "mkdirat": (258, 34), "rmdir": (84, None), "mknod": (133, None), "mknodat": (259, 33),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "utimensat": (280, 88),
}  # fmt: skip
# Their arguments lie in memory, where a filter cannot look; the C library goes on to the older calls.
_UNREADABLE: dict[str, _Numbers] = {"clone3": (435, 435), "openat2": (437, 437)}
# Of other processes; with 0 a process means itself.
_OWN_ONLY: dict[str, _Numbers] = {"prlimit64": (302, 261)}
_KILL_CALL: _Numbers = (62, 129)
_CLONE: _Numbers = (56, 220)
_OPEN: tuple[tuple[_Numbers, int], ...] = (
    ((2, None), 1),
    ((257, 56), 2),
)  # with the place of the flags among the arguments


def refuse_calls() -> None:
    """Refuse what the payload never needs, from now on and in every process that this one forks.

    Raises:
        OSError: the kernel has no seccomp filters, or this architecture has no table here.
    """
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        raise OSError(errno.ENOSYS, f"no table of system calls for {os.uname().machine}")
    install_filter(machine.seccomp, _program(machine))


def _program(machine: _Machine) -> bytes:
    refuse, missing = _return(_ERRNO | errno.EPERM), _return(_ERRNO | errno.ENOSYS)
    code = [_insn(_LOAD, _OFFSET_ARCHITECTURE), _insn(_EQUAL, machine.audit, 1, 0), _return(_KILL)]
    code.append(_insn(_LOAD, _OFFSET_NUMBER))
    # Also the calls of x32, whose numbers begin at 2**30.
    code += [_insn(_AT_LEAST, _FIRST_UNKNOWN, 0, 1), missing]

    def on(numbers: _Numbers, *then: bytes) -> None:
        number = numbers[machine.column]
        if number is not None:
            code.extend((_insn(_EQUAL, number, 0, len(then)), *then))

    for numbers in _UNREADABLE.values():
        on(numbers, missing)
    for numbers in _NEVER.values():
        on(numbers, refuse)
    on(_CLONE, _argument(0), _insn(_ANY_BIT, _NAMESPACES, 0, 1), refuse, _return(_ALLOW))
    for numbers, place in _OPEN:
        on(numbers, _argument(place), _insn(_ANY_BIT, _CHANGES, 0, 1), refuse, _return(_ALLOW))
    for numbers in _OWN_ONLY.values():
        on(numbers, _argument(0), _insn(_EQUAL, 0, 1, 0), refuse, _return(_ALLOW))
    # The decoders' zygote ends single processes; a group, or all that the user has, nobody.
    on(
        _KILL_CALL,
        _argument(0),
        _insn(_AT_LEAST, 2**31, 1, 0),
        _insn(_EQUAL, 0, 0, 1),
        refuse,
        _return(_ALLOW),
    )
    code.append(_return(_ALLOW))
    return b"".join(code)


def _argument(place: int) -> bytes:
    # The low half of the 64 bits: both architectures are little-endian, and the flags are ints.
    return _insn(_LOAD, _OFFSET_ARGUMENTS + 8 * place)


def _return(value: int) -> bytes:
    return _insn(_RETURN, value)


def _insn(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
