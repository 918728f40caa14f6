"""Checks of what the backend local needs."""

from __future__ import annotations

import os
from pathlib import Path

from enclavectl.host.checks.base import Check, Group, Verdict, fail, ok, warn
from enclavectl.host.checks.facts import Facts
from enclavectl.host.host import RUNTIMES

_LEAST_PYTHON = (3, 11, 0)  # requires-python of pyproject.toml
_PRIVATE = 0o077


def _python(facts: Facts) -> Verdict:
    version = facts.host.python.version
    shown = ".".join(map(str, version))
    if version < _LEAST_PYTHON:
        return fail(f"Python {shown}", "install Python 3.11 or newer")
    return ok(f"Python {shown}")


def _runtime(facts: Facts) -> Verdict:
    found = [name for name in RUNTIMES if name in facts.host.python.modules]
    if not found:
        return fail("no TFLite runtime", "pip install --force-reinstall enclavectl: it requires one")
    return ok(" and ".join(found))


def _namespaces(facts: Facts) -> Verdict:
    if facts.host.user.uid == 0:
        return ok("root may make namespaces")
    tree = facts.tree
    closed = {
        "/proc/sys/user/max_user_namespaces": 0,
        "/proc/sys/kernel/unprivileged_userns_clone": 0,  # Debian's
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": 1,  # Ubuntu's
    }
    for name, value in closed.items():
        if tree.number(name) == value:
            return warn(
                f"{name} is {value}: users may make no namespaces here",
                "the payload of the local backend then keeps its network; it is a simulation all the same",
            )
    return ok("users may make namespaces")


def _state_dir(facts: Facts) -> Verdict:
    name = str(facts.settings.state_dir)
    found = facts.tree.facts(name)
    if found is None:
        return _new_state_dir(facts, name)
    if found.uid != facts.host.user.uid:
        return fail(f"{name} belongs to user {found.uid}", "set ENCLAVECTL_STATE_DIR to a folder of your own")
    if found.permissions & _PRIVATE:
        return fail(f"{name} has mode {found.permissions:04o}, others may enter", f"chmod 700 '{name}'")
    return ok(f"{name}, mode {found.permissions:04o}")


def _new_state_dir(facts: Facts, name: str) -> Verdict:
    parent = next(folder for folder in map(str, Path(name).parents) if facts.tree.exists(folder))
    # A copied folder has a different owner than the original, unless the recording names the original's.
    if facts.tree.is_live or parent in facts.tree.facts_of:
        user, found = facts.host.user, facts.tree.facts(parent)
        if found is None or not found.allows(os.W_OK | os.X_OK, uid=user.uid, gids=user.gids):
            return fail(
                f"{name} cannot be made: {user.name} may not write to {parent}",
                "set ENCLAVECTL_STATE_DIR to a folder of your own",
            )
    return ok(f"{name} will be made")


CHECKS = (
    Check(id="local.python", group=Group.LOCAL, why="enclavectl and the payload need it", examine=_python),
    Check(
        id="local.runtime",
        group=Group.LOCAL,
        why="the payload classifies with it; it is looked for without being imported",
        examine=_runtime,
    ),
    Check(
        id="local.namespaces",
        group=Group.LOCAL,
        why="the local payload leaves the network by making a namespace of its own",
        examine=_namespaces,
    ),
    Check(
        id="local.state-dir",
        group=Group.LOCAL,
        why="keys and records are in there, so nobody else may enter",
        examine=_state_dir,
    ),
)
