"""Opening a host: this machine, or the recorded folder that ``--host-root`` names."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec  # finds without importing
from pathlib import Path

from enclavectl.host.host import RUNTIMES, Host, Python, User
from enclavectl.host.probe import LiveProbe
from enclavectl.host.recording import recorded_host
from enclavectl.host.tree import Tree


def live_host(environ: Mapping[str, str]) -> Host:
    """Return this machine as a host."""
    return Host(
        tree=Tree(),
        probe=LiveProbe(environ=environ),
        user=_live_user(),
        python=_live_python(),
        machine=os.uname().machine,
        environ=environ,
        now=datetime.now(UTC),
    )


def open_host(root: Path | None, environ: Mapping[str, str]) -> Host:
    """Open the host that ``--host-root`` names: a recorded folder, or this machine.

    Raises:
        UsageError: it is no folder, or its recording is damaged.
    """
    if root is None or root.absolute() == Path("/"):
        return live_host(environ)
    return recorded_host(root)


def _live_user() -> User:
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return User(name=name, uid=uid, gids=frozenset({os.getgid(), *os.getgroups()}))


def _live_python() -> Python:
    found = frozenset(name for name in RUNTIMES if find_spec(name) is not None)
    return Python(version=sys.version_info[:3], modules=found)
