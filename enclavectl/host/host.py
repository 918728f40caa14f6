"""One host: its files, its programs, our user and interpreter there, and the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from enclavectl.host.probe import HostProbe
from enclavectl.host.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The user of this process. Its groups may predate changes of /etc/group."""

    name: str
    uid: int
    gids: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """The interpreter that runs us, and the modules that it could import."""

    version: tuple[int, int, int]
    modules: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host. ``machine`` is uname's name of the architecture, such as x86_64."""

    tree: Tree
    probe: HostProbe
    user: User
    python: Python
    machine: str
    environ: Mapping[str, str]
    now: datetime

    @property
    def home(self) -> str | None:
        """The user's home folder, if there is one."""
        return self.environ.get("HOME") or None


# The two names of the TFLite runtime; pyproject.toml assigns them to versions of Python.
RUNTIMES = ("tflite_runtime", "ai_edge_litert")
