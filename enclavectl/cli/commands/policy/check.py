"""``enclavectl policy check``."""

from __future__ import annotations

import typer

from enclavectl.attestation import LifeState
from enclavectl.attestation.policy_json import time_json
from enclavectl.attestation.policy_review import PolicySeverity, review_policy
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.policy_arguments import At, PolicyPath, moment, read_policy
from enclavectl.errors import AttestationError

CHECK_SCHEMA = "enclavectl.policy-check/1"


def check(file: PolicyPath, at: At = "now", output: Output = OutputFormat.TEXT) -> None:
    """Check that a policy can be used, and note its risks.

    Exit code 2: the file cannot be used; the error names the line and the rule. Exit code 4: it can, but at
    this time every enclave would be refused. Warnings do not change the exit code.

    Examples:
      enclavectl policy check p.yaml                  before anybody gets it
      enclavectl policy check p.yaml --at 2027-01-31  will it do on that day?
    """
    screen = screen_for(output)
    policy = read_policy(file)
    when = moment("--at", at)
    findings = review_policy(policy, at=when)
    valid = [one.name for one in policy.releases if policy.state_of(one, when) is LifeState.VALID]
    if screen.as_json:
        value = {"schema": CHECK_SCHEMA, "file": str(file), "at": time_json(when), "valid": valid}
        screen.result({**value, "findings": [one.to_json() for one in findings]})
    else:
        screen.facts([("policy", f"{file} can be used"), ("valid releases", ", ".join(valid) or "none")])
        if findings:
            rows = [(str(one.severity), one.code, one.message) for one in findings]
            screen.table(("FINDING", "CODE", "WHAT"), rows)
    if any(one.severity is PolicySeverity.ERROR for one in findings):
        raise typer.Exit(AttestationError.exit_code)
