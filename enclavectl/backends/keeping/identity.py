"""The identity of a recorded process: its number is reused; number, start, boot and user together are not.

Code that ends a recorded process first opens it here: the descriptor always names the same process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from enclavectl.errors import HostError
from enclavectl.json_object import JsonObject

# The index of the start time after the command's name, which may contain blanks and brackets
# (proc_pid_stat(5)).
_START_FIELD = 19
_MAX_PID = 2**22  # proc_sys_kernel(5), pid_max


class ProcessIdentity(NamedTuple):
    """A process: its number, its start in clock ticks after the boot, and the boot's id."""

    pid: int
    started_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a process that runs, or has ended and was not waited for yet.

        Raises:
            HostError: there is no such process, or /proc is not mounted.
        """
        try:
            return cls(pid, _started_ticks(pid), _boot_id())
        except (OSError, ValueError, IndexError) as exc:
            raise HostError(
                f"/proc/{pid}: cannot be read ({exc})", hint="enclavectl needs /proc to tell processes apart"
            ) from exc

    @classmethod
    def from_json(cls, value: JsonObject) -> ProcessIdentity:
        """Read the output of ``to_json``.

        Raises:
            JsonError: a member is missing or of another type.
        """
        return cls(
            pid=value.integer("pid", minimum=1, maximum=_MAX_PID),
            started_ticks=value.integer("started_ticks"),
            boot_id=value.string("boot_id"),
        )

    def to_json(self) -> dict[str, object]:
        """Return the object in a record."""
        return {"pid": self.pid, "started_ticks": self.started_ticks, "boot_id": self.boot_id}

    def open(self) -> int | None:
        """Open a descriptor of the process; None if it has ended, even if another process has its number now.

        A process of another user is never opened, whatever a record says.
        """
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return None
        try:
            # Check after opening the descriptor: the process that has the number now is the one that it
            # names.
            if ProcessIdentity.of(self.pid) == self and _users(self.pid) == {os.geteuid()}:
                return handle
        except (HostError, OSError, ValueError):
            pass  # the process has just ended
        os.close(handle)
        return None


def _started_ticks(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return int(text.rpartition(")")[2].split()[_START_FIELD])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _users(pid: int) -> set[int]:
    """Return the process's real, effective, saved and file system user."""
    # Not the owner of /proc/PID, which is root for a process that cannot be traced.
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        if line.startswith("Uid:"):
            return {int(word) for word in line.split()[1:]}
    return set()
