"""Checks of what the backend local needs."""

from __future__ import annotations

import os
from pathlib import Path

from enclavectl.host.checks.base import Check, Verdict, fail, ok, warn
from enclavectl.host.checks.facts import Facts
from enclavectl.host.host import RUNTIMES

_LEAST_PYTHON = (3, 11, 0)  # requires-python of pyproject.toml
_PRIVATE = 0o077
# mount_setattr(2), and the first interface of Landlock.
_FILE_TREE_FROM = (5, 12, 0)
_LANDLOCK_FROM = (5, 13, 0)
_SECCOMP_MACHINES = ("x86_64", "aarch64")


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
    tree = facts.tree
    closed = {"/proc/sys/user/max_user_namespaces": 0}
    if facts.host.user.uid != 0:
        closed |= {
            "/proc/sys/kernel/unprivileged_userns_clone": 0,  # Debian's
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": 1,  # Ubuntu's
        }
    for name, value in closed.items():
        if tree.number(name) == value:
            return warn(
                f"{name} is {value}: {facts.host.user.name} may make no namespaces here",
                "the payload of a local enclave then keeps the machine's file tree and network; Landlock and "
                "seccomp still bound it",
            )
    return ok(f"{facts.host.user.name} may make namespaces")


def _sandbox(facts: Facts) -> Verdict:
    release, version = facts.kernel
    modules = facts.tree.word("/sys/kernel/security/lsm")
    missing = []
    if version is not None and version < _FILE_TREE_FROM:
        missing.append(f"a file tree of its own (Linux {release}, needed is 5.12)")
    if version is not None and version < _LANDLOCK_FROM:
        missing.append(f"Landlock (Linux {release}, needed is 5.13)")
    elif modules is not None and "landlock" not in modules.split(","):
        missing.append(f"Landlock (the kernel's security modules are {modules})")
    if facts.host.machine not in _SECCOMP_MACHINES:
        missing.append(f"seccomp (enclavectl has no table of calls for {facts.host.machine})")
    if missing:
        return warn(
            f"the payload of a local enclave runs without {' and without '.join(missing)}",
            "boot with a newer kernel, or with landlock in its parameter lsm=; the other layers hold",
        )
    if modules is None:
        return ok(f"Linux {release} has a file tree and seccomp; whether Landlock is on is not told")
    return ok(f"Linux {release} has a file tree, Landlock and seccomp")


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
    Check(id="local.python", why="enclavectl and the payload need it", examine=_python),
    Check(
        id="local.runtime",
        why="the payload classifies with it; it is looked for without being imported",
        examine=_runtime,
    ),
    Check(
        id="local.namespaces",
        why="the local payload leaves the machine's files, processes and network for its own",
        examine=_namespaces,
    ),
    Check(
        id="local.sandbox",
        why="more layers keep the local payload from the user's files and programs",
        examine=_sandbox,
    ),
    Check(
        id="local.state-dir",
        why="keys and records are in there, so nobody else may enter",
        examine=_state_dir,
    ),
)
