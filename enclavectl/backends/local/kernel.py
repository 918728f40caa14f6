"""The kernel calls of the sandbox that Python has no function for. One that is refused raises OSError."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
# include/uapi/linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
# include/uapi/linux/mount.h
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MS_NOSUID = 0x2
MS_NODEV = 0x4
MNT_DETACH = 0x2
# These came after the numbering was unified: they are the same on every architecture.
_MOUNT_SETATTR = 442
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1
_MOUNT_ATTR_NOSUID = 0x2
_LANDLOCK_VERSION = 1  # a flag: return the version of the interface
_LANDLOCK_PATH_BENEATH = 1  # the kind of rule
_SECCOMP_SET_MODE_FILTER = 1
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int = 0) -> None:
    """Change one property of this process."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def unshare(flags: int) -> None:
    """Leave namespaces for new ones."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
    """Mount, bind, or change what is mounted at ``target``."""
    data = None if options is None else options.encode()
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data), f"mount {target}")


def make_read_only(path: Path) -> None:
    """Make everything that is mounted at and below ``path`` read-only, and ignore set-user-ID files."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID, 0, 0, 0)
    name, size = os.fsencode(path), len(attributes)
    _syscall("mount_setattr", _MOUNT_SETATTR, _AT_FDCWD, name, _AT_RECURSIVE, attributes, size)


def change_root(folder: Path) -> None:
    """Make ``folder``, which is a mount, the root, and let the old root go."""
    os.chdir(folder)
    _check(_libc.pivot_root(b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every capability, and with the bounding set the way to get one from a program."""
    for number in range(64):
        # From the first number that this kernel does not know; without CAP_SETPCAP from the first one on.
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) != 0:
            break
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


def landlock_version() -> int:
    """Return the version of Landlock's interface."""
    return _syscall("landlock", _LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)


def landlock_ruleset(attributes: bytes) -> int:
    """Return the descriptor of a new set of rules."""
    return _syscall("landlock_create_ruleset", _LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)


def landlock_allow(ruleset: int, path: int, rights: int) -> None:
    """Allow ``rights`` at the descriptor ``path``, and below it if it is a folder."""
    rule = struct.pack("=Qi", rights, path)
    _syscall("landlock_add_rule", _LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_PATH_BENEATH, rule, 0)


def landlock_restrict(ruleset: int) -> None:
    """Hold this thread, and what it starts, to the rules."""
    _syscall("landlock_restrict_self", _LANDLOCK_RESTRICT_SELF, ruleset, 0)


def install_filter(number: int, program: bytes) -> None:
    """Install a seccomp filter; ``number`` is that of seccomp(2), ``program`` 8 bytes an instruction."""
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    _syscall("seccomp", number, _SECCOMP_SET_MODE_FILTER, 0, fprog)


def _syscall(name: str, number: int, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *words), name)


def _check(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
