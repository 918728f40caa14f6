"""``enclavectl policy new``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.attestation import Policy, Trust, render_policy
from enclavectl.attestation.policy import MAX_AGE_LIMIT
from enclavectl.attestation.policy_edit import EditedPolicy
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.option_groups import spreads_groups
from enclavectl.cli.options import DryRun, Output, OutputFormat
from enclavectl.cli.policy_change import PolicyChangeRequest, apply_change, require_new_policy
from enclavectl.cli.release_arguments import ReleaseArguments
from enclavectl.errors import UsageError

PolicyOutput = Annotated[Path, typer.Option("--to", metavar="FILE", help="The policy; never overwritten.")]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="TRUST",
        help="Whose signature counts: nitro (default), simulated or emulated; may be repeated.",
    ),
]
MaxAge = Annotated[
    int,
    typer.Option(
        "--max-age",
        metavar="SECONDS",
        min=1,
        max=int(MAX_AGE_LIMIT.total_seconds()),
        help="How old a document may be.",
    ),
]


@spreads_groups
def new(
    to: PolicyOutput,
    release: ReleaseArguments,
    accept: Accept = None,
    max_age: MaxAge = 300,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Write a policy with one release.

    The release has every register of the lock: PCR0, PCR1 and PCR2, PCR8 of a signed image, and PCR16 where
    the lock has it. With --model, PCR16 is computed from the model's card. A release that expires makes
    people look again; clients say so 14 days before.

    Examples:
      enclavectl policy new --from-lock app.lock.json --to p.yaml       of a build
      enclavectl policy new --from-lock a.json --model ./m --to p.yaml  its model
      enclavectl policy new --from-lock a.json --to p.yaml --dry-run    look first
    """
    screen = screen_for(output)
    require_new_policy("--to", to, writes=not dry_run)
    made = release.release()
    policy = Policy(accept=_accepted(accept), releases=(made,), max_age=timedelta(seconds=max_age))
    request = PolicyChangeRequest(
        command="new",
        path=to,
        before=None,
        after=EditedPolicy(text=render_policy(policy), policy=policy, is_rewritten=False),
        did=f"new, with release {made.name}",
        is_dry_run=dry_run,
        new_release=made.name,
    )
    apply_change(screen, request)


def _accepted(words: list[str] | None) -> frozenset[Trust]:
    try:
        return frozenset(Trust(word) for word in words or [Trust.NITRO])
    except ValueError as exc:
        known = ", ".join(one for one in Trust if one is not Trust.DEBUG)
        raise UsageError(f"--accept: expected one of {known}; {exc}") from exc
