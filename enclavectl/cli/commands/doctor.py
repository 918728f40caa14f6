"""``enclavectl doctor``: what is wrong with this host, why it matters, and what fixes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from enclavectl.cli import options
from enclavectl.cli.consent import require_consent
from enclavectl.cli.host_facts import facts_of
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.config.choices import BackendChoice
from enclavectl.errors import UsageError
from enclavectl.host.changer import LiveChanger
from enclavectl.host.checks.base import Result
from enclavectl.host.checks.facts import Facts
from enclavectl.host.doctor import by_group, examine_host, fixable, has_failed, run_fixes, summary
from enclavectl.host.live import open_host

DOCTOR_SCHEMA = "enclavectl.doctor/1"
EXIT_UNFIT = 3
_SIGNS = {"ok": "✓", "warn": "!", "fail": "✗", "skip": "?", "not-applicable": "-"}
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim", "not-applicable": "dim"}

Fix = Annotated[
    bool, typer.Option("--fix", help="Run the fixes that lose nothing and end nothing, then look again.")
]
Every = Annotated[bool, typer.Option("--all", help="Show also what is well and what does not apply here.")]


def doctor(
    every: Every = False,
    fix: Fix = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    host_root: options.HostRoot = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Check this host, and say how to fix what is wrong.

    For each finding: what was found, why it matters, and the command that fixes it. Without --fix it only
    looks. Exit code 0 if nothing fails, 3 if something does; warnings fail nothing.

    Examples:
      enclavectl doctor                  what is wrong
      enclavectl doctor --all            and what is well
      enclavectl doctor --fix --dry-run  the fixes that could be run
      enclavectl doctor --fix            run them, after a question
    """
    invocation = begin(output, config, {})
    screen = invocation.screen
    host = open_host(host_root, os.environ)
    if fix and not dry_run and not host.tree.is_live:
        raise UsageError(
            "--fix: expected this machine, found --host-root",
            hint="enclavectl doctor --fix --dry-run says what it would do there",
        )
    facts = facts_of(host, invocation.config)
    results = examine_host(facts)
    fixes = fixable(results) if fix else []
    done: Mapping[str, str | None] = {}
    is_root = host.user.uid == 0
    if fixes and not dry_run:
        for one in fixes:
            screen.note(f"will run: {one.fix_line(is_root=is_root)}")
        require_consent(command="doctor --fix", yes=yes, what=f"{len(fixes)} fixes")
        changer = LiveChanger(uid=host.user.uid, environ=os.environ, may_ask=sys.stdin.isatty())
        done = run_fixes(fixes, changer)
        facts = facts_of(host, invocation.config)
        results = examine_host(facts)
    if screen.as_json:
        screen.result(_to_json(facts, results, fixes, done))
    else:
        title = _title(facts, invocation.config.backend)
        _draw(screen, title, results, is_root=is_root, every=every)
        for one in fixes:
            outcome = "would run" if dry_run else (done[one.check.id] or "done")
            screen.note(f"{one.check.id}: {one.fix_line(is_root=is_root)}: {outcome}")
    if has_failed(results) or any(done.values()):
        raise typer.Exit(EXIT_UNFIT)


def _to_json(
    facts: Facts, results: Sequence[Result], fixes: Sequence[Result], done: Mapping[str, str | None]
) -> dict[str, object]:
    is_root = facts.host.user.uid == 0
    states = [result.verdict.state.value for result in results]
    return {
        "schema": DOCTOR_SCHEMA,
        "nitro_host": facts.is_nitro,
        "fit": "fail" not in states,
        "counts": {state: states.count(state) for state in _SIGNS},
        "checks": [
            {
                "id": result.check.id,
                "group": result.check.group.value,
                "state": result.verdict.state.value,
                "found": result.verdict.found,
                "why": result.check.why,
                "fix": result.fix_line(is_root=is_root),
                "fix_is_safe": result.verdict.is_safe,
            }
            for result in results
        ],
        "fixes": [
            {
                "id": one.check.id,
                "command": one.fix_line(is_root=is_root),
                "state": ("failed" if done[one.check.id] else "done") if done else "would-do",
                "error": done.get(one.check.id),
            }
            for one in fixes
        ],
    }


def _title(facts: Facts, backend: BackendChoice) -> str:
    if facts.is_nitro:
        return "This is a Nitro host."
    if backend is BackendChoice.QEMU:
        return "This is no Nitro host: enclaves are emulated here (backend qemu)."
    return "This is no Nitro host: enclaves are simulated here (backend local)."


def _draw(screen: Screen, title: str, results: Sequence[Result], *, is_root: bool, every: bool) -> None:
    screen.heading(title)
    for group, found in by_group(results):
        screen.drawn((f"{group.value:12}", "bold"), (summary(found), "dim"))
        for one in found:
            state = one.verdict.state.value
            is_wrong = state in {"warn", "fail"}
            if every or is_wrong:
                head, said = f"  {_SIGNS[state]} ", f"{one.check.id}: {one.verdict.found}"
                screen.drawn((head, _STYLES[state]), (said, ""), soft_wrap=True)
            if is_wrong:
                screen.drawn((f"      why: {one.check.why}", "dim"), soft_wrap=True)
                fix = one.fix_line(is_root=is_root) or "none known"
                screen.drawn((f"      fix: {fix}", ""), soft_wrap=True)
