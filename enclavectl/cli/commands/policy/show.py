"""``enclavectl policy show``."""

from __future__ import annotations

from enclavectl.attestation.policy_json import note_json, policy_json, time_json
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.policy_arguments import At, PolicyPath, moment, read_policy
from enclavectl.cli.policy_view import draw_policy

SHOW_SCHEMA = "enclavectl.policy-show/1"


def show(file: PolicyPath, at: At = "now", output: Output = OutputFormat.TEXT) -> None:
    """Print what a policy accepts: releases, lives, revocations.

    Each release has a label, which names its code and model in logs and in revocations, and a state at the
    time that is asked about: valid, not-yet-valid, expired or revoked.

    Examples:
      enclavectl policy show p.yaml                  today
      enclavectl policy show p.yaml --at 2027-01-31  on that day
    """
    screen = screen_for(output)
    policy = read_policy(file)
    when = moment("--at", at)
    notes = policy.expiry_notes(when)
    if screen.as_json:
        value = {"schema": SHOW_SCHEMA, "file": str(file), "at": time_json(when)}
        screen.result(
            {**value, "policy": policy_json(policy, at=when), "notes": [note_json(one) for one in notes]}
        )
        return
    draw_policy(screen, policy, at=when)
    for note in notes:
        screen.note(note.message)
