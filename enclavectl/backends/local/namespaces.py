"""Namespaces of its own for the payload, and the process that stands for it outside of them."""

from __future__ import annotations

import errno
import os
import select
import signal
from types import FrameType
from typing import NoReturn

from enclavectl.backends.local import kernel

_NOBODY = 65534  # the kernel's overflow user
_ALL = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
)


def leave_namespaces() -> None:
    """Leave the machine's mounts, processes, network, System V objects and name; its users as well.

    The process keeps its number; the next one that it forks is the first of the new process namespace.

    Raises:
        OSError: the kernel lets this user make no namespaces.
    """
    user, group = os.getuid(), os.getgid()
    try:
        # All in one call, so that there are all or none.
        kernel.unshare(kernel.CLONE_NEWUSER | _ALL)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:  # user_namespaces(7), where "no space left on device" misleads
            raise OSError(exc.errno, "user.max_user_namespaces allows no more") from exc
        raise
    _write("/proc/self/setgroups", "deny")
    # In there even root is nobody: what asks for root's privileges finds that it has none.
    _write("/proc/self/uid_map", f"{user or _NOBODY} {user} 1")
    _write("/proc/self/gid_map", f"{group or _NOBODY} {group} 1")


def continue_as_first_process() -> None:
    """Fork into the new process namespace; the caller goes on in the child, as number 1.

    The parent waits, passes SIGTERM on, and ends as the child did. The child dies with it.
    """
    parent = os.pidfd_open(os.getpid())
    child = os.fork()
    if child != 0:
        os.close(parent)
        _stand_for(child)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    if poll.poll(0):
        raise SystemExit("the supervisor is gone")
    os.close(parent)
    # The first process of a namespace ignores the signals that it does not handle.
    signal.signal(signal.SIGTERM, _end)


def _stand_for(child: int) -> NoReturn:
    # It needs its console only. The NSM's and the clients' sockets are the payload's alone.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    raise SystemExit(code)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
