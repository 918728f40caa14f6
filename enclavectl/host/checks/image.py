"""Checks of the image and the lock in the current folder, and of the clock that verification uses."""

from __future__ import annotations

from datetime import UTC, datetime

from enclavectl.artifacts.lock import read_lock
from enclavectl.artifacts.locked_image import check_lock
from enclavectl.artifacts.names import LOCK_NAME
from enclavectl.errors import EnclavectlError
from enclavectl.host.checks.base import Check, Scope, Verdict, fail, not_applicable, ok, skip, warn
from enclavectl.host.checks.facts import Facts
from enclavectl.host.requirements import EifFacts, read_eif

# Bytes: hashing more would take longer than all other checks together.
_MAX_HASHED = 64 << 20
# Earlier than this code: a clock that shows an earlier time was never set.
_BORN = datetime(2026, 1, 1, tzinfo=UTC)


def _image(facts: Facts) -> EifFacts | None:
    """Return the image that the lock in the current folder names, if there is one."""
    path = facts.settings.folder / LOCK_NAME
    if not path.is_file():
        return None
    image = facts.settings.folder / str(read_lock(path).eif["file"])
    return read_eif(image) if image.is_file() else None


def _lock(facts: Facts) -> Verdict:
    path = facts.settings.folder / LOCK_NAME
    if not path.is_file():
        return not_applicable(f"no {LOCK_NAME} in {facts.settings.folder}")
    try:
        lock = read_lock(path)
        image = facts.settings.folder / str(lock.eif["file"])
        if image.is_file() and image.stat().st_size > _MAX_HASHED:
            return skip(f"{image} is large; enclavectl lock check hashes it")
        checked = check_lock(lock, path)
    except EnclavectlError as exc:
        return fail(exc.message, exc.hint or "enclavectl build")
    return ok(f"{checked.path.name} is the image that {LOCK_NAME} names")


def _arch(facts: Facts) -> Verdict:
    image = _image(facts)
    if image is None:
        return not_applicable("no image here")
    machine = image.machine
    if machine != facts.host.machine:
        return warn(
            f"the image is for {machine}, this machine is {facts.host.machine}", "enclavectl build here"
        )
    return ok(f"for {machine}")


def _memory(facts: Facts) -> Verdict:
    image = _image(facts)
    if image is None:
        return not_applicable("no image here")
    if facts.settings.memory_mib < image.min_memory_mib:
        return fail(
            f"the image needs {image.min_memory_mib} MiB, enclave.memory_mib is {facts.settings.memory_mib}",
            f"set enclave.memory_mib to {image.min_memory_mib}; enclavectl plan {image.path.name}",
        )
    return ok(f"needs {image.min_memory_mib} MiB of the {facts.settings.memory_mib} that are configured")


def _clock(facts: Facts) -> Verdict:
    now = facts.host.now
    if now < _BORN:
        return fail(f"the clock says {now:%Y-%m-%d}", "sudo timedatectl set-ntp true, or set the clock")
    answer = facts.host.probe.run("timedatectl", "show", "--property=NTPSynchronized", "--value")
    said = "" if answer is None or answer.status != 0 else answer.text.strip()
    if said == "no":
        return warn(
            f"{now:%Y-%m-%d %H:%M} UTC, not synchronized", "sudo timedatectl set-ntp true; chronyc tracking"
        )
    if said == "yes":
        return ok(f"{now:%Y-%m-%d %H:%M} UTC, synchronized")
    return skip(f"{now:%Y-%m-%d %H:%M} UTC; nothing here says whether that is synchronized")


CHECKS = (
    Check(
        id="image.lock",
        why="run, diagnose and verify take the lock as their policy: another image is refused by clients",
        examine=_lock,
    ),
    Check(
        id="image.arch",
        why="an image for other CPUs fails at boot, after the whole wait",
        examine=_arch,
    ),
    Check(
        id="image.memory",
        scope=Scope.NITRO,
        why="nitro-cli refuses to start an image in less than four times its size (E26)",
        examine=_memory,
    ),
    Check(
        id="clock.synchronized",
        why="evidence has a time stamp and certificates of three hours; a wrong clock refuses good ones",
        examine=_clock,
    ),
)
