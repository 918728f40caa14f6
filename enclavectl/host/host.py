"""One host: its files, whom to ask, who runs us there, and when."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.host.asks import Asks, LiveAsks
from enclavectl.host.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who runs us: what the process has, which may be older than what /etc/group says."""

    name: str
    uid: int
    gids: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """The interpreter that runs us, and which modules it could import."""

    version: tuple[int, int, int]
    modules: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Everything that is looked at. ``machine`` is uname's word, such as x86_64."""

    tree: Tree
    asks: Asks
    user: User
    python: Python
    machine: str
    environ: Mapping[str, str]
    now: datetime

    @property
    def home(self) -> str | None:
        """The user's home folder, if there is one."""
        return self.environ.get("HOME") or None


# The two names of the runtime that classifies: pyproject.toml says which Python gets which.
RUNTIMES = ("tflite_runtime", "ai_edge_litert")


def live_host(environ: Mapping[str, str]) -> Host:
    """This machine."""
    return Host(
        tree=Tree(),
        asks=LiveAsks(environ=environ),
        user=_live_user(),
        python=_live_python(),
        machine=os.uname().machine,
        environ=environ,
        now=datetime.now(UTC),
    )


def open_host(root: Path | None, environ: Mapping[str, str]) -> Host:
    """The host that ``--host-root`` names: a recorded folder, or this machine.

    Raises:
        UsageError: the folder is none, or its recording is damaged.
    """
    if root is None or root.absolute() == Path("/"):
        return live_host(environ)
    from enclavectl.host.recording import recorded_host

    return recorded_host(root)


def _live_user() -> User:
    import pwd

    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return User(name=name, uid=uid, gids=frozenset({os.getgid(), *os.getgroups()}))


def _live_python() -> Python:
    import sys
    from importlib.util import find_spec  # finds without importing

    found = frozenset(name for name in RUNTIMES if find_spec(name) is not None)
    return Python(version=sys.version_info[:3], modules=found)
