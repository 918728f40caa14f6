"""One host: its files, whom to ask, who runs us there, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from enclavectl.host.probe import HostProbe
from enclavectl.host.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The user of this process. Its groups may be older than /etc/group."""

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


# The two names of the runtime that classifies: pyproject.toml says which Python gets which.
RUNTIMES = ("tflite_runtime", "ai_edge_litert")
