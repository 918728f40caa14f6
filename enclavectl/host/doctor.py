"""All checks, their summary, and the safe fixes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from enclavectl.errors import HostError
from enclavectl.host.changer import HostChanger
from enclavectl.host.checks import (
    allocator,
    disk,
    emulator,
    engine,
    gateway,
    image,
    instance,
    nitro_cli,
    permissions,
    simulated,
)
from enclavectl.host.checks.base import Check, Group, Result, State, run_check
from enclavectl.host.checks.facts import Facts

_ORDER = list(Group)
CHECKS: tuple[Check, ...] = tuple(
    sorted(
        (
            *instance.CHECKS,
            *permissions.CHECKS,
            *allocator.CHECKS,
            *nitro_cli.CHECKS,
            *engine.CHECKS,
            *disk.CHECKS,
            *image.CHECKS,
            *gateway.CHECKS,
            *emulator.CHECKS,
            *simulated.CHECKS,
        ),
        key=lambda check: _ORDER.index(check.group),
    )
)


def examine_host(facts: Facts) -> list[Result]:
    """Run every check, in the order of the groups."""
    return [run_check(check, facts) for check in CHECKS]


def has_failed(results: Sequence[Result]) -> bool:
    """Return whether any check fails."""
    return any(result.verdict.state is State.FAIL for result in results)


def fixable(results: Sequence[Result]) -> list[Result]:
    """Return the results whose fix is a safe program; each program once."""
    found: dict[tuple[str, ...], Result] = {}
    for result in results:
        action = result.verdict.action
        if action is not None and result.verdict.is_safe:
            found.setdefault(tuple(action.argv), result)
    return list(found.values())


def run_fixes(results: Sequence[Result], changer: HostChanger) -> dict[str, str | None]:
    """Run each fix; map the check's id to None, or to the reason of its failure, and go on."""
    done: dict[str, str | None] = {}
    for result in results:
        action = result.verdict.action
        if action is not None:
            try:
                changer.run(action)
                done[result.check.id] = None
            except HostError as exc:
                done[result.check.id] = exc.message
    return done


def by_group(results: Sequence[Result]) -> Iterator[tuple[Group, list[Result]]]:
    """Yield the results of each group that has any."""
    for group in _ORDER:
        found = [result for result in results if result.check.group is group]
        if found:
            yield group, found


def summary(results: Sequence[Result]) -> str:
    """Return how many results are in each state, in words such as "1 ok, 5 do not apply"."""
    states = [result.verdict.state for result in results]
    counts = {state: states.count(state) for state in State}
    words = {
        State.OK: "ok",
        State.WARN: "warning" if counts[State.WARN] == 1 else "warnings",
        State.FAIL: "failed",
        State.SKIP: "could not be seen",
        State.NOT_APPLICABLE: "does not apply" if counts[State.NOT_APPLICABLE] == 1 else "do not apply",
    }
    return ", ".join(f"{counts[state]} {word}" for state, word in words.items() if counts[state])
