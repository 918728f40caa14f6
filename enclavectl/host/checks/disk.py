"""Checks of the disk: room for builds, and leftovers of builds and crashes."""

from __future__ import annotations

import re
from pathlib import Path

from enclavectl.host.checks.base import Check, Scope, State, Verdict, fix_with, ok, skip, warn
from enclavectl.host.checks.facts import Facts

# Bytes. The payload's image has about 90 MiB; a build needs at least three times the image, and Docker's
# cache.
_LEAST = 1 << 30
# nitro-cli writes two files for each failed launch: ten failures are worth a warning.
_MAX_LOGS = 20
_ERROR_LOG = re.compile(r"err.*\.log")
_STAGED = re.compile(r"\.enclavectl-[0-9a-f]{16}\.tmp")  # files.stage_file
# A running build has such a file as well, and no build or download takes a day.
_OLD_S = 24 * 3600


def _room(facts: Facts, name: str, clean: str) -> Verdict:
    free = facts.tree.free_bytes(name)
    shown = f"{free / (1 << 30):.1f} GiB free for {name}"
    return ok(shown) if free >= _LEAST else warn(f"only {shown}", clean)


def _artifacts_dir(facts: Facts) -> str | None:
    environ = facts.host.environ
    if named := environ.get("NITRO_CLI_ARTIFACTS"):
        return named
    return None if facts.host.home is None else f"{facts.host.home}/.nitro_cli"


def _artifacts_room(facts: Facts) -> Verdict:
    folder = _artifacts_dir(facts)
    if folder is None:
        return skip("no home folder")
    return _room(facts, folder, "set NITRO_CLI_ARTIFACTS to a folder on a larger disk")


def _docker_room(facts: Facts) -> Verdict:
    return _room(
        facts, "/var/lib/docker", "docker system df shows what fills it, docker system prune frees it"
    )


def _temporary_room(facts: Facts) -> Verdict:
    folder = facts.host.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - only its free space
    return _room(facts, folder, "set TMPDIR to a folder on a larger disk")


def _state_room(facts: Facts) -> Verdict:
    return _room(
        facts, str(facts.settings.state_dir), "set ENCLAVECTL_STATE_DIR to a folder on a larger disk"
    )


def _logs(facts: Facts) -> Verdict:
    count = sum(1 for name in facts.tree.names(facts.logs_dir) if _ERROR_LOG.fullmatch(name))
    if count > _MAX_LOGS:
        return fix_with(
            State.WARN,
            f"{count} files err*.log in {facts.logs_dir}",
            *("find", facts.logs_dir, "-name", "err*.log", "-mtime", "+7", "-delete"),
            is_safe=False,
        )
    return ok(f"{count} files err*.log")


def _artifacts(facts: Facts) -> Verdict:
    folder = _artifacts_dir(facts)
    found = [] if folder is None else facts.tree.names(folder)
    if folder is None or not found:
        return ok("nothing is left of nitro-cli's builds")
    return fix_with(
        State.WARN,
        f"{folder} has {len(found)} files: the root file system of the last image, in the clear",
        *("rm", "-r", folder),
        as_root=False,
        is_safe=False,
    )


def _sockets(facts: Facts) -> Verdict:
    stale = facts.running.stale
    if stale:
        return warn(
            f"{len(stale)} sockets of enclaves that ended uncleanly: {', '.join(stale[:3])}",
            "nitro-cli describe-enclaves removes them; never remove one by hand, it may be of one that runs",
        )
    return ok(f"{len(facts.running.sockets)} enclaves run, no stale socket")


def _staged(facts: Facts) -> Verdict:
    left = [
        f"{folder}/{name}"
        for folder in _folders(facts)
        for name in facts.tree.names(folder)
        if _STAGED.fullmatch(name) and _is_old(facts, f"{folder}/{name}")
    ]
    if left:
        return fix_with(
            State.WARN,
            f"{len(left)} files that enclavectl was writing when it was killed",
            *("rm", "-f", "--", *left[:100]),
            as_root=False,
        )
    return ok("no half-written file of enclavectl's")


def _store(facts: Facts) -> Verdict:
    store = f"{facts.settings.state_dir}/nitro"
    images = [name for name in facts.tree.names(f"{store}/images") if name.endswith(".eif")]
    if images and not facts.tree.names(f"{store}/enclaves"):
        return fix_with(
            State.WARN,
            f"{len(images)} images in {store}/images, and no enclave that runs one",
            *("rm", "-f", "--", *(f"{store}/images/{name}" for name in images[:100])),
            as_root=False,
            is_safe=False,  # a launch copies its image there before its enclave exists
        )
    return ok(f"{len(images)} images in the store")


def _folders(facts: Facts) -> list[str]:
    """Return our own folders, three levels deep, from the state folder down."""
    found = [str(facts.settings.state_dir), str(facts.settings.data_dir)]
    level = found
    for _ in range(2):
        level = [f"{folder}/{name}" for folder in level for name in facts.tree.names(folder)]
        level = [folder for folder in level if facts.tree.path(folder).is_dir()]
        found += level
    return found


def _is_old(facts: Facts, name: str) -> bool:
    path: Path = facts.tree.path(name)
    try:
        return facts.host.now.timestamp() - path.stat().st_mtime > _OLD_S
    except FileNotFoundError:
        return False


CHECKS = (
    Check(
        id="disk.artifacts",
        scope=Scope.NITRO,
        why="nitro-cli keeps two ramdisks there while it builds: three times the image's size in all",
        examine=_artifacts_room,
    ),
    Check(
        id="disk.docker",
        why="the image that becomes an EIF is in Docker first",
        examine=_docker_room,
    ),
    Check(
        id="disk.temporary",
        why="builds put an image there on its way; a small tmpfs fills up with it",
        examine=_temporary_room,
    ),
    Check(
        id="disk.state",
        why="enclavectl keeps images and records of enclaves there",
        examine=_state_room,
    ),
    Check(
        id="leftovers.error-logs",
        scope=Scope.NITRO,
        why="nitro-cli writes two for each launch that fails and never removes one",
        examine=_logs,
    ),
    Check(
        id="leftovers.artifacts",
        why="what a build leaves there is the image's file system, with whatever secrets are in it",
        examine=_artifacts,
    ),
    Check(
        id="leftovers.sockets",
        scope=Scope.NITRO,
        why="they are how one tells which enclaves run",
        examine=_sockets,
    ),
    Check(
        id="leftovers.store",
        why="each running image has a copy there that goes with its last enclave, unless that was killed",
        examine=_store,
    ),
    Check(
        id="leftovers.staged",
        why="they take room and are of no use",
        examine=_staged,
    ),
)
