"""A change to the host as a list of steps: each says what it would do before it does it.

A step looks at the host right before it is done, because the steps before it change what there is to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from enclavectl.errors import EnclavectlError
from enclavectl.host.hands import Action, Hands


class StepState(StrEnum):
    """What became of a step."""

    DONE = "done"
    WOULD_DO = "would-do"
    ALREADY = "already"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a step found: that there is nothing to do, that it cannot be done here, or what it would do.

    ``lines`` are commands as one would type them, ``diff`` a change of a file. ``do`` returns what was done;
    ``is_missing``: the host is not complete without it, although the step cannot do it.
    """

    state: StepState
    detail: str
    actions: tuple[Action, ...] = ()
    diff: str | None = None
    is_missing: bool = False
    do: Callable[[Hands], str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step; ``look`` may raise an EnclavectlError if the step cannot even be planned."""

    id: str
    title: str
    look: Callable[[], Look] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A step and what became of it."""

    id: str
    title: str
    state: StepState
    detail: str
    commands: tuple[str, ...] = ()
    diff: str | None = None
    hint: str | None = None
    is_missing: bool = False

    def to_json(self) -> dict[str, object]:
        """The step as JSON values."""
        return {
            "id": self.id,
            "title": self.title,
            "state": self.state.value,
            "detail": self.detail,
            "commands": list(self.commands),
            "diff": self.diff,
            "hint": self.hint,
        }


def already(detail: str) -> Look:
    """There is nothing to do."""
    return Look(state=StepState.ALREADY, detail=detail)


def skipped(detail: str, *, is_missing: bool = False) -> Look:
    """It is not for us to do, here or now."""
    return Look(state=StepState.SKIPPED, detail=detail, is_missing=is_missing)


def would_run(detail: str, *actions: Action) -> Look:
    """Programs, one after the other."""
    return Look(state=StepState.WOULD_DO, detail=detail, actions=actions)


def plan_steps(steps: Sequence[Step], *, is_root: bool) -> list[Report]:
    """What each step would do on the host as it is now; nothing is changed."""
    return [_planned(step, is_root=is_root)[0] for step in steps]


def run_steps(steps: Sequence[Step], hands: Hands, on_step: Callable[[Report], None]) -> list[Report]:
    """The steps are done, up to the first that fails; those behind it are not tried and say so.

    ``on_step`` is told of each step that is about to be done.
    """
    reports: list[Report] = []
    broken: str | None = None
    for step in steps:
        if broken is not None:
            detail = f"not tried: {broken} failed"
            reports.append(Report(id=step.id, title=step.title, state=StepState.SKIPPED, detail=detail))
            continue
        report, look = _planned(step, is_root=hands.is_root)
        if report.state is StepState.WOULD_DO and look is not None:
            on_step(report)
            report = _done(report, look, hands)
        reports.append(report)
        broken = step.id if report.state is StepState.FAILED else None
    return reports


def _planned(step: Step, *, is_root: bool) -> tuple[Report, Look | None]:
    try:
        look = step.look()
    except EnclavectlError as exc:
        failed = StepState.FAILED
        return Report(id=step.id, title=step.title, state=failed, detail=exc.message, hint=exc.hint), None
    report = Report(
        id=step.id,
        title=step.title,
        state=look.state,
        detail=look.detail,
        commands=tuple(action.line(is_root=is_root) for action in look.actions),
        diff=look.diff,
        is_missing=look.is_missing,
    )
    return report, look


def _done(report: Report, look: Look, hands: Hands) -> Report:
    from dataclasses import replace

    try:
        detail = look.detail
        if look.do is not None:
            detail = look.do(hands)
        else:
            for action in look.actions:
                hands.run(action)
    except EnclavectlError as exc:
        return replace(report, state=StepState.FAILED, detail=exc.message, hint=exc.hint)
    return replace(report, state=StepState.DONE, detail=detail)
