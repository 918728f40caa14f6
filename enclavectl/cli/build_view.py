"""The output of `build`: a plan or a result."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enclavectl.cli.screen import Screen, error_value
from enclavectl.errors import EnclavectlError
from enclavectl.image.build import BuildResult
from enclavectl.image.findings import LintFinding

BUILD_SCHEMA = "enclavectl.build/1"
PLAN_SCHEMA = "enclavectl.build-plan/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltFiles:
    """Where a build wrote its files."""

    image: Path
    lock: Path
    provenance: Path | None


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
    pairs = [(key, str(plan[key])) for key in ("image", "builder") if plan[key]]
    if isinstance(base := plan["base"], dict):
        pairs += [("base", " ".join(str(base[key]) for key in ("reference", "id") if key in base))]
    pairs += [("context", str(name)) for name in context] if isinstance(context, list) else []
    pairs += (
        [("wheel", f"{one['file']} {one['sha256']}") for one in wheels] if isinstance(wheels, list) else []
    )
    screen.facts(pairs)
    for finding in findings:
        screen.note(str(finding))


def show_built(screen: Screen, built: BuildResult, files: BuiltFiles, *, seconds: float) -> None:
    """Show the result: image, PCRs, lock, the lint's findings, and the next commands."""
    to, size = files.image, int(str(built.lock.eif["size"]))
    if screen.as_json:
        value = {"schema": BUILD_SCHEMA, "eif": str(to), "size": size, "seconds": round(seconds, 1)}
        value |= {"lock": str(files.lock), "pcrs": dict(built.lock.pcrs)}
        value |= {"provenance": None if files.provenance is None else str(files.provenance)}
        screen.result({**value, "image": built.lock.image, "findings": built.lock.findings})
        return
    for finding in built.findings:
        screen.note(str(finding))
    facts = [("image", str(to)), *built.lock.pcrs.items(), ("lock", str(files.lock))]
    facts += [] if files.provenance is None else [("provenance", str(files.provenance))]
    facts += [("size", f"{size / (1 << 20):.1f} MiB"), ("time", f"{seconds:.0f} s")]
    run = f"enclavectl run {shlex.quote(str(to))} --backend"
    facts += [("next", f"{run} nitro, on a Nitro host; {run} qemu elsewhere")]
    screen.facts(facts)
