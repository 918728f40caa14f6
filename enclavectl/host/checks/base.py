"""The parts of a check: a question with a stable id, its reason, and its verdict with a fix."""

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
    """The subjects of checks, in the order of the output."""

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
    GATEWAY = "gateway"
    QEMU = "qemu"
    LOCAL = "local"


class Scope(StrEnum):
    """The machines to which a check applies."""

    ANYWHERE = "anywhere"
    NITRO = "a Nitro host"
    NODE = "a Nitro host itself"  # and no pod on it, which can neither see nor mend it


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer to a check. ``fix`` is its remedy, in words or as a command.

    ``is_safe``: the fix loses nothing, ends nothing and can be undone, so ``--fix`` may run it.
    """

    state: State
    found: str
    fix: str | None = None
    action: Action | None = None
    is_safe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question about a host. ``id`` begins with the group's name and a dot."""

    id: str
    why: str
    examine: Callable[[Facts], Verdict] = field(repr=False)
    scope: Scope = Scope.ANYWHERE

    @property
    def group(self) -> Group:
        """The subject of the question."""
        return Group(self.id.partition(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A question with its answer."""

    check: Check
    verdict: Verdict

    def fix_line(self, *, is_root: bool) -> str | None:
        """Return the command or the words that fix it, or None."""
        action = self.verdict.action
        return self.verdict.fix if action is None else action.line(is_root=is_root)


def ok(found: str) -> Verdict:
    """Return the verdict that all is well."""
    return Verdict(state=State.OK, found=found)


def warn(found: str, fix: str) -> Verdict:
    """Return the verdict that something works badly, or that an optional part fails."""
    return Verdict(state=State.WARN, found=found, fix=fix)


def fail(found: str, fix: str) -> Verdict:
    """Return the verdict that enclaves do not work until ``fix`` is done."""
    return Verdict(state=State.FAIL, found=found, fix=fix)


def skip(found: str) -> Verdict:
    """Return the verdict that this host does not reveal the answer."""
    return Verdict(state=State.SKIP, found=found)


def not_applicable(found: str) -> Verdict:
    """Return the verdict that the check does not apply to this host."""
    return Verdict(state=State.NOT_APPLICABLE, found=found)


def fix_with(state: State, found: str, *argv: str, as_root: bool = True, is_safe: bool = True) -> Verdict:
    """Return a verdict with the program that fixes it."""
    action = Action(argv=argv, as_root=as_root)
    return Verdict(state=state, found=found, action=action, is_safe=is_safe)


def run_check(check: Check, facts: Facts) -> Result:
    """Run a check; an error of the host becomes a skip with its reason."""
    if check.scope is not Scope.ANYWHERE and not facts.expects_nitro:
        return Result(check=check, verdict=not_applicable("only on a Nitro host"))
    if check.scope is Scope.NODE and facts.is_pod:
        return Result(check=check, verdict=not_applicable("the node's affair, and this is a pod on it"))
    try:
        return Result(check=check, verdict=check.examine(facts))
    except EnclavectlError as exc:
        return Result(check=check, verdict=skip(exc.message))
