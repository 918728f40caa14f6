"""Checks of this user's permissions; they detect a login that predates a new group membership."""

from __future__ import annotations

import os

from enclavectl.errors import HostError
from enclavectl.host.checks.base import Check, Scope, State, Verdict, fail, fix_with, ok, skip, warn
from enclavectl.host.checks.facts import DEVICE, Facts
from enclavectl.host.groups import Membership, membership

_RW = os.R_OK | os.W_OK
_WX = os.W_OK | os.X_OK


def _may(facts: Facts, name: str, wanted: int) -> bool:
    found = facts.tree.facts(name)
    user = facts.host.user
    return found is not None and found.allows(wanted, uid=user.uid, gids=user.gids)


def _group(facts: Facts, group: str, needed_for: str) -> Verdict:
    user = facts.host.user
    if user.uid == 0:
        return ok(f"root needs no group {group}")
    found = membership(facts.groups, user, group)
    if found is Membership.CURRENT:
        return ok(f"{user.name} is in the group {group}")
    if found is Membership.OLD_LOGIN:
        return fail(
            f"{user.name} is in the group {group}, but this login is older than that",
            f"log out and in again, or for one shell: newgrp {group}",
        )
    if found is Membership.NO_GROUP:
        return fail(f"there is no group {group}: the package that makes it is missing", "enclavectl setup")
    return fail(f"{user.name} is not in the group {group}, so cannot {needed_for}", "enclavectl setup")


def _group_ne(facts: Facts) -> Verdict:
    return _group(facts, "ne", "start enclaves")


def _group_docker(facts: Facts) -> Verdict:
    try:
        if not facts.engine_address.is_usual:
            return ok(f"no group docker is needed for the engine of {facts.engine_address.source}")
    except HostError as exc:
        return skip(exc.message)
    found = _group(facts, "docker", "build images")
    # Only a warning: running an enclave needs no Docker.
    return found if found.state is State.OK else warn(found.found, found.fix or "enclavectl setup")


def _device(facts: Facts) -> Verdict:
    found = facts.tree.facts(DEVICE)
    if found is None:
        return fail(f"no {DEVICE}", "sudo modprobe nitro_enclaves")
    if _may(facts, DEVICE, _RW):
        return ok(f"{DEVICE} can be opened")
    ne = facts.groups.get("ne")
    if ne is not None and found.gid != ne[0]:
        return fix_with(
            State.FAIL,
            f"{DEVICE} belongs to group {found.gid}, not to ne: the udev rule came after the device",
            "udevadm",
            "trigger",
            "--action=add",
            "--name-match=nitro_enclaves",
        )
    return fail(f"{DEVICE} cannot be opened by {facts.host.user.name}", "enclavectl setup, then log in again")


def _log_dir(facts: Facts) -> Verdict:
    folder = facts.logs_dir
    if not facts.tree.exists(folder):
        return fix_with(
            State.FAIL,
            f"no {folder}",
            *("install", "-d", "-m", "0775", "-o", "root", "-g", "ne", folder),
        )
    if not _may(facts, folder, _WX):
        return fail(f"{folder} cannot be written by {facts.host.user.name}", "enclavectl setup")
    return ok(f"{folder} can be written")


def _log_file(facts: Facts) -> Verdict:
    name = f"{facts.logs_dir}/nitro_enclaves.log"
    found = facts.tree.facts(name)
    if found is None:
        return ok("no log yet; the first nitro-cli makes it")
    if not _may(facts, name, _RW):
        return fix_with(State.FAIL, f"{name} cannot be written by this user", "chmod", "0664", name)
    if found.mode & 0o002:
        return fix_with(
            State.WARN,
            f"{name} can be written by anyone (mode {found.permissions:04o}): root ran nitro-cli",
            *("chmod", "0664", name),
        )
    return ok(f"{name}, mode {found.permissions:04o}")


def _run_dir(facts: Facts) -> Verdict:
    folder = facts.sockets_dir
    if not facts.tree.exists(folder):
        return fix_with(State.FAIL, f"no {folder}", "systemd-tmpfiles", "--create")
    if not _may(facts, folder, _WX):
        return fail(f"{folder} cannot be written by {facts.host.user.name}", "enclavectl setup")
    return ok(f"{folder} can be written")


CHECKS = (
    Check(
        id="permissions.group-ne",
        scope=Scope.NODE,
        why="the device, the logs and the sockets belong to the group ne",
        examine=_group_ne,
    ),
    Check(
        id="permissions.group-docker",
        scope=Scope.NODE,
        why="building an image asks the Docker engine, whose socket belongs to the group docker",
        examine=_group_docker,
    ),
    Check(
        id="permissions.device",
        scope=Scope.NITRO,
        why="run-enclave opens the device for reading and writing (E19)",
        examine=_device,
    ),
    Check(
        id="permissions.log-dir",
        scope=Scope.NITRO,
        why="every nitro-cli command opens its log first and ends with E19 if it cannot",
        examine=_log_dir,
    ),
    Check(
        id="permissions.log-file",
        scope=Scope.NITRO,
        why="a log that another user made stops nitro-cli (E19); one that anyone can write proves nothing",
        examine=_log_file,
    ),
    Check(
        id="permissions.run-dir",
        scope=Scope.NITRO,
        why="running enclaves have their sockets there; without it nitro-cli ends with E07",
        examine=_run_dir,
    ),
)
