"""What `build` shows of a plan and of a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from enclavectl.cli.screen import Screen, error_value
from enclavectl.errors import EnclavectlError
from enclavectl.image.build import Built
from enclavectl.image.findings import LintFinding

BUILD_SCHEMA = "enclavectl.build/1"
PLAN_SCHEMA = "enclavectl.build-plan/1"


def show_plan(
    screen: Screen,
    plan: dict[str, object],
    findings: Sequence[LintFinding],
    *,
    refusal: EnclavectlError | None = None,
) -> None:
    """Show what would be built and what the lint found; ``refusal`` is the error that ends the build."""
    if screen.as_json:
        refused = {} if refusal is None else {"error": error_value(refusal)}
        screen.result({"schema": PLAN_SCHEMA, **plan, **refused})
        return
    context, wheels = plan["context"], plan["wheels"]
    pairs = [(key, str(plan[key])) for key in ("image", "base") if plan[key]]
    pairs += [("context", str(name)) for name in context] if isinstance(context, list) else []
    pairs += (
        [("wheel", f"{one['file']} {one['sha256']}") for one in wheels] if isinstance(wheels, list) else []
    )
    screen.facts(pairs)
    for finding in findings:
        screen.note(str(finding))


def show_built(screen: Screen, built: Built, to: Path, lock: Path) -> None:
    """Show what was built: image, PCRs, lock, and what the lint found."""
    if screen.as_json:
        value = {"schema": BUILD_SCHEMA, "eif": str(to), "lock": str(lock), "pcrs": dict(built.lock.pcrs)}
        screen.result({**value, "image": built.lock.image, "findings": built.lock.findings})
        return
    for finding in built.findings:
        screen.note(str(finding))
    screen.facts([("image", str(to)), *built.lock.pcrs.items(), ("lock", str(lock))])
