"""The restrictions of the local payload, which it sets before it imports anything that parses input."""

from __future__ import annotations

import ctypes
import os
import resource

# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
# include/uapi/linux/sched.h
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIGKILL = 9
_MAX_DESCRIPTORS = 256


def die_with_parent(parent_pid: int) -> None:
    """Let the kernel kill this process when the thread that started it ends, even by SIGKILL.

    Raises:
        SystemExit: the parent was gone before we asked.
    """
    _libc().prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit("the supervisor is gone")


def restrict(memory_mib: int) -> bool:
    """Bounded memory and descriptors, no written files, no core dump, no new privileges, no network.

    Returns whether the network is gone: not every kernel lets an unprivileged process leave it.
    """
    for limit, wanted in (
        (resource.RLIMIT_AS, memory_mib * 1024 * 1024),
        (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        # A hard limit below ours stays: only root may raise one, and a narrower bound bounds as well.
        hard = resource.getrlimit(limit)[1]
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(limit, (bound, bound))
    libc = _libc()
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # A user namespace lets anyone make a network namespace, and an empty one has no way out. It must come
    # before the dumpable flag is cleared: unshare(CLONE_NEWUSER) sets it again.
    isolated = any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWUSER | _CLONE_NEWNET, _CLONE_NEWNET))
    # No other process of this user may read our memory: it holds pictures and keys.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return isolated


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
