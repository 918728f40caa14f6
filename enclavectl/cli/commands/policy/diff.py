"""``enclavectl policy diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.attestation.policy_diff import compare_policies
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.policy_arguments import read_policy

DIFF_SCHEMA = "enclavectl.policy-diff/1"

PolicyBefore = Annotated[Path, typer.Argument(metavar="OLD", help="The policy as it was.")]
PolicyAfter = Annotated[Path, typer.Argument(metavar="NEW", help="The policy as it is.")]


def diff(before: PolicyBefore, after: PolicyAfter, output: Output = OutputFormat.TEXT) -> None:
    """Say what differs between two policies.

    Compares what the files mean, not their text: comments, quotes and the order of releases are no
    difference. A release with another name and the same registers was renamed.

    Examples:
      enclavectl policy diff old.yaml new.yaml  what a review has to look at
    """
    screen = screen_for(output)
    old = read_policy(before)
    new = read_policy(after)
    changes = compare_policies(old, new)
    if screen.as_json:
        value = {"schema": DIFF_SCHEMA, "before": str(before), "after": str(after)}
        screen.result({**value, "same": not changes, "changes": [one.to_json() for one in changes]})
    elif changes:
        rows = [
            (str(one.part), one.name, str(one.kind), one.field or "", one.before or "", one.after or "")
            for one in changes
        ]
        screen.table(("PART", "NAME", "WHAT", "FIELD", "BEFORE", "AFTER"), rows)
    else:
        screen.facts([("difference", "none: both accept the same")])
