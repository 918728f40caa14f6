"""A change of the host as a list of steps: each plans its actions before it applies them.

A step reads the host right before it is applied, because earlier steps change the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from enclavectl.errors import EnclavectlError
from enclavectl.host.changer import Action, HostChanger


class StepState(StrEnum):
    """The state of a step."""

    DONE = "done"
    WOULD_DO = "would-do"
    ALREADY = "already"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """The plan of a step: nothing to do, impossible here, or the actions to take.

    ``diff`` is the change of a file. ``apply`` makes the change and describes it; without ``apply`` the
    actions run in order. ``is_missing``: the host stays incomplete, because the step cannot be done.
    """

    state: StepState
    detail: str
    actions: tuple[Action, ...] = ()
    diff: str | None = None
    is_missing: bool = False
    apply: Callable[[HostChanger], str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step; ``plan`` may raise an EnclavectlError if the step cannot be planned."""

    id: str
    title: str
    plan: Callable[[], StepPlan] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A step and its result."""

    id: str
    title: str
    state: StepState
    detail: str
    commands: tuple[str, ...] = ()
    diff: str | None = None
    hint: str | None = None
    is_missing: bool = False

    def to_json(self) -> dict[str, object]:
        """Return the step as JSON values."""
        return {
            "id": self.id,
            "title": self.title,
            "state": self.state.value,
            "detail": self.detail,
            "commands": list(self.commands),
            "diff": self.diff,
            "hint": self.hint,
        }


def already(detail: str) -> StepPlan:
    """Return the plan of a step that has nothing to do."""
    return StepPlan(state=StepState.ALREADY, detail=detail)


def skipped(detail: str, *, is_missing: bool = False) -> StepPlan:
    """Return the plan of a step that is skipped on this host or at this time."""
    return StepPlan(state=StepState.SKIPPED, detail=detail, is_missing=is_missing)


def would_run(detail: str, *actions: Action) -> StepPlan:
    """Return the plan to run programs in order."""
    return StepPlan(state=StepState.WOULD_DO, detail=detail, actions=actions)


def plan_steps(steps: Sequence[Step], *, is_root: bool) -> list[Report]:
    """Plan each step on the current host; change nothing."""
    return [_planned(step, is_root=is_root)[0] for step in steps]


def run_steps(steps: Sequence[Step], changer: HostChanger, on_step: Callable[[Report], None]) -> list[Report]:
    """Apply the steps up to the first failure; report the later ones as not tried.

    ``on_step`` is called before each step.
    """
    reports: list[Report] = []
    broken: str | None = None
    for step in steps:
        if broken is not None:
            detail = f"not tried: {broken} failed"
            reports.append(Report(id=step.id, title=step.title, state=StepState.SKIPPED, detail=detail))
            continue
        report, plan = _planned(step, is_root=changer.is_root)
        if report.state is StepState.WOULD_DO and plan is not None:
            on_step(report)
            report = _done(report, plan, changer)
        reports.append(report)
        broken = step.id if report.state is StepState.FAILED else None
    return reports


def _planned(step: Step, *, is_root: bool) -> tuple[Report, StepPlan | None]:
    try:
        plan = step.plan()
    except EnclavectlError as exc:
        failed = StepState.FAILED
        return Report(id=step.id, title=step.title, state=failed, detail=exc.message, hint=exc.hint), None
    report = Report(
        id=step.id,
        title=step.title,
        state=plan.state,
        detail=plan.detail,
        commands=tuple(action.line(is_root=is_root) for action in plan.actions),
        diff=plan.diff,
        is_missing=plan.is_missing,
    )
    return report, plan


def _done(report: Report, plan: StepPlan, changer: HostChanger) -> Report:
    try:
        detail = plan.detail
        if plan.apply is not None:
            detail = plan.apply(changer)
        else:
            for action in plan.actions:
                changer.run(action)
    except EnclavectlError as exc:
        return replace(report, state=StepState.FAILED, detail=exc.message, hint=exc.hint)
    return replace(report, state=StepState.DONE, detail=detail)
