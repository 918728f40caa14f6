"""``enclavectl policy kms-lint``."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.artifacts.lock import read_lock
from enclavectl.attestation.policy_json import time_json
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.kms_arguments import Context, KeyArn, KeyPolicyPath, Parents, parse_pairs, read_key_policy
from enclavectl.cli.kms_view import draw_findings
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.policy_arguments import At, moment, read_policy
from enclavectl.cli.screen import Screen
from enclavectl.files import read_bounded, refuse_input, require_output
from enclavectl.kms import Finding, LintFacts, Severity, fix, is_clean, key_releases, lint, partly_revoked
from enclavectl.kms.facts import MAX_AWS_BYTES, parse_grants, parse_key_metadata
from enclavectl.kms.reader import MAX_READABLE_BYTES
from enclavectl.new_files import require_new, write_new

LINT_SCHEMA = "enclavectl.policy-kms-lint/1"
# The exit code for a key policy with errors or warnings, as for an image that is not sound.
EXIT_NOT_CLEAN = 2

PolicyFact = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="The policy that the key policy should follow."),
]
LockFact = Annotated[
    Path | None, typer.Option("--lock", metavar="FILE", help="The lock of an image that it names.")
]
MetadataFact = Annotated[
    Path | None,
    typer.Option("--key-metadata", metavar="FILE", help="What aws kms describe-key printed of the key."),
]
GrantsFact = Annotated[
    Path | None, typer.Option("--grants", metavar="FILE", help="What aws kms list-grants printed of the key.")
]
FixedOutput = Annotated[
    Path | None,
    typer.Option(
        "--fixed-to",
        metavar="FILE",
        help="Write the key policy with every fix to a new file, for a person to complete.",
    ),
]
AdminFact = Annotated[
    str | None,
    typer.Option(
        "--admin", metavar="ARN", help="The model owner's role; default: whoever has PutKeyPolicy first."
    ),
]


def kms_lint(
    file: KeyPolicyPath,
    policy: PolicyFact = None,
    lock: LockFact = None,
    key_metadata: MetadataFact = None,
    grants: GrantsFact = None,
    admin: AdminFact = None,
    parent: Parents = None,
    context: Context = None,
    key: KeyArn = None,
    fixed_to: FixedOutput = None,
    at: At = "now",
    output: Output = OutputFormat.TEXT,
) -> None:
    """Check a key policy for the known mistakes.

    Rules K01 to K40 say which statement lets whom get the key without the right enclave, why, and what to
    write in its place. They look at what the policy as a whole lets through. Some rules need more than its
    text: give them what you have. Exit code 0 only without errors and warnings, else 2.

    Examples:
      enclavectl policy kms-lint key.json                  the text alone
      enclavectl policy kms-lint key.json --policy p.yaml  is it the policy's?
      enclavectl policy kms-lint key.json --grants g.json  a way around it?
    """
    screen = screen_for(output)
    if fixed_to is not None:
        refuse_input("--fixed-to", fixed_to, [file, policy, lock, key_metadata, grants])
        require_new("--fixed-to", fixed_to)
        require_output("--fixed-to", fixed_to)
    found, when = read_key_policy(file, limit=MAX_READABLE_BYTES), moment("--at", at)
    facts = LintFacts(
        at=when,
        built=None if lock is None else read_lock(lock).registers(str(lock)),
        admin=admin,
        parents=tuple(parent or ()),
        context=parse_pairs("--context", context or []),
        key_id=key,
    )
    if key_metadata is not None:
        facts = replace(facts, key=parse_key_metadata(_aws(key_metadata), source=str(key_metadata)))
    if grants is not None:
        facts = replace(facts, grants=parse_grants(_aws(grants), source=str(grants)))
    if policy is not None:
        followed = read_policy(policy)
        releases = key_releases(followed, when)
        facts = replace(facts, releases=releases, revoked=partly_revoked(followed, releases))
    findings = lint(found, facts)
    if fixed_to is not None:
        write_new(fixed_to, [fix(found, facts).to_bytes()], mode=0o644)
    _show(screen, file, when, findings, fixed_to)
    if not is_clean(findings):
        raise typer.Exit(EXIT_NOT_CLEAN)


def _show(
    screen: Screen, file: Path, at: datetime, findings: tuple[Finding, ...], fixed_to: Path | None
) -> None:
    if screen.as_json:
        screen.result(
            {
                "schema": LINT_SCHEMA,
                "file": str(file),
                "at": time_json(at),
                "clean": is_clean(findings),
                "fixed_to": None if fixed_to is None else str(fixed_to),
                "findings": [one.to_json() for one in findings],
            }
        )
        return
    draw_findings(screen, findings)
    counts = {one: sum(finding.severity is one for finding in findings) for one in Severity}
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    screen.facts([(str(file), f"{'clean' if is_clean(findings) else 'NOT CLEAN'} ({said})")])
    if fixed_to is not None:
        screen.facts([("fixed", str(fixed_to))])


def _aws(path: Path) -> bytes:
    return read_bounded(path, MAX_AWS_BYTES, what="answer of AWS")
