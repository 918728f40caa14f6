"""What a check is: a question with a stable id, why it matters, and what to do about the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from enclavectl.errors import EnclavectlError
from enclavectl.host.changer import Action
from enclavectl.host.checks.facts import Facts


class State(StrEnum):
    """The result of a check. Only ``FAIL`` makes the doctor's exit code 3."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    NOT_APPLICABLE = "not-applicable"


class Group(StrEnum):
    """What a check is about, in the order in which they are shown."""

    INSTANCE = "instance"
    PERMISSIONS = "permissions"
    ALLOCATOR = "allocator"
    CPUS = "cpus"
    NITRO_CLI = "nitro-cli"
    BLOBS = "blobs"
    DOCKER = "docker"
    DISK = "disk"
    VSOCK = "vsock"
    IMAGE = "image"
    CLOCK = "clock"
    LEFTOVERS = "leftovers"
    LOCAL = "local"


class Scope(StrEnum):
    """The machines on which a check has a meaning."""

    ANYWHERE = "anywhere"
    NITRO = "a Nitro host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found. ``fix`` is the command for it, in words or ready to run.

    ``is_safe``: it loses nothing, ends nothing and can be undone, so ``--fix`` may run it.
    """

    state: State
    found: str
    fix: str | None = None
    action: Action | None = None
    is_safe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question."""

    id: str
    group: Group
    why: str
    examine: Callable[[Facts], Verdict] = field(repr=False)
    scope: Scope = Scope.ANYWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A question with its answer."""

    check: Check
    verdict: Verdict

    def fix_line(self, *, is_root: bool) -> str | None:
        """Return the command that fixes it, or None."""
        action = self.verdict.action
        return self.verdict.fix if action is None else action.line(is_root=is_root)


def ok(found: str) -> Verdict:
    """Return the verdict that all is well."""
    return Verdict(state=State.OK, found=found)


def warn(found: str, fix: str) -> Verdict:
    """Return the verdict that something works badly, or fails that not everybody needs."""
    return Verdict(state=State.WARN, found=found, fix=fix)


def fail(found: str, fix: str) -> Verdict:
    """Return the verdict that it does not work until ``fix`` is done."""
    return Verdict(state=State.FAIL, found=found, fix=fix)


def skip(found: str) -> Verdict:
    """Return the verdict that this host does not tell."""
    return Verdict(state=State.SKIP, found=found)


def not_applicable(found: str) -> Verdict:
    """Return the verdict that the question has no meaning here."""
    return Verdict(state=State.NOT_APPLICABLE, found=found)


def fix_with(state: State, found: str, *argv: str, as_root: bool = True, is_safe: bool = True) -> Verdict:
    """Return a verdict with the program that fixes it."""
    action = Action(argv=argv, as_root=as_root)
    return Verdict(state=state, found=found, action=action, is_safe=is_safe)


def run_check(check: Check, facts: Facts) -> Result:
    """Answer a check, whatever happens: what cannot be read is a skip with its reason."""
    if check.scope is Scope.NITRO and not facts.expects_nitro:
        return Result(check=check, verdict=not_applicable("only on a Nitro host"))
    try:
        return Result(check=check, verdict=check.examine(facts))
    except EnclavectlError as exc:
        return Result(check=check, verdict=skip(exc.message))
