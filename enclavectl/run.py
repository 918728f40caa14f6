"""The only module that starts processes. Lists, never a shell; no inherited environment or descriptors."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from enclavectl.errors import HostError

# What a child of ours may know of its surroundings: nothing of the user's.
MINIMAL_ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A process to start: absolute program first, its folder, and the descriptors it is handed."""

    argv: Sequence[str]
    cwd: Path
    pass_fds: tuple[int, ...] = ()


def start(command: Command, *, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """A running process in its own session, with no standard input; both outputs go to ``output``.

    Raises:
        HostError: it could not be started.
    """
    try:
        return subprocess.Popen(
            list(command.argv),
            cwd=command.cwd,
            env=MINIMAL_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=command.pass_fds,
            start_new_session=True,
        )
    except OSError as exc:
        raise HostError(f"{command.argv[0]}: cannot be started ({exc.strerror})") from exc
