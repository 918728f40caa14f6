"""The output of `build`: a plan or a result."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from enclavectl.cli.screen import Screen, error_value
from enclavectl.errors import EnclavectlError
from enclavectl.image.build import BuildRequest, BuildResult
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
    """Show the plan and the lint's findings; ``refusal`` is the error that would end the build."""
    if screen.as_json:
        refused = {} if refusal is None else {"error": error_value(refusal)}
        screen.result({"schema": PLAN_SCHEMA, **plan, **refused})
        return
    context, wheels = plan["context"], plan["wheels"]
    pairs = [(key, str(plan[key])) for key in ("image", "builder", "base") if plan[key]]
    pairs += [("context", str(name)) for name in context] if isinstance(context, list) else []
    pairs += (
        [("wheel", f"{one['file']} {one['sha256']}") for one in wheels] if isinstance(wheels, list) else []
    )
    screen.facts(pairs)
    for finding in findings:
        screen.note(str(finding))


def show_built(screen: Screen, built: BuildResult, request: BuildRequest, *, seconds: float) -> None:
    """Show the result: image, PCRs, lock, the lint's findings, and the next commands."""
    to, size = request.output, int(str(built.lock.eif["size"]))
    if screen.as_json:
        value = {"schema": BUILD_SCHEMA, "eif": str(to), "size": size, "seconds": round(seconds, 1)}
        value |= {"lock": str(request.lock_path), "pcrs": dict(built.lock.pcrs)}
        screen.result({**value, "image": built.lock.image, "findings": built.lock.findings})
        return
    for finding in built.findings:
        screen.note(str(finding))
    facts = [("image", str(to)), *built.lock.pcrs.items(), ("lock", str(request.lock_path))]
    facts += [("size", f"{size / (1 << 20):.1f} MiB"), ("time", f"{seconds:.0f} s")]
    facts += [("next", f"enclavectl run {shlex.quote(str(to))} --backend nitro, on a Nitro host")]
    screen.facts(facts)
