"""``enclavectl policy kms``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.attestation import Policy
from enclavectl.attestation.policy_json import time_json
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.kms_arguments import KeyArn, parse_pairs
from enclavectl.cli.kms_view import draw_json
from enclavectl.cli.options import DryRun, Output, OutputFormat
from enclavectl.cli.output_files import require_distinct
from enclavectl.cli.policy_arguments import At, moment, read_policy
from enclavectl.cli.screen import Screen
from enclavectl.errors import StateError
from enclavectl.files import refuse_input, require_output, require_replaceable, stage_file, status_at
from enclavectl.kms import KeyPolicy, KeyPolicyRequest, compile_key_policy, request_from_policy
from enclavectl.kms.compile import check_key, operator_policy, put_commands

KMS_SCHEMA = "enclavectl.policy-kms/1"

PolicyFile = Annotated[Path, typer.Option("--policy", metavar="FILE", help="The policy to compile.")]
Admin = Annotated[
    str, typer.Option("--admin", metavar="ARN", help="The model owner's role, in the key's account.")
]
OperatorRoles = Annotated[
    list[str],
    typer.Option(
        "--parent",
        metavar="ARN",
        help="A role of the operator, which asks for the enclave: at least one; may be repeated.",
    ),
]
SealingContext = Annotated[
    list[str],
    typer.Option(
        "--context",
        metavar="NAME=VALUE",
        help="A pair of the encryption context: at least one; may be repeated.",
    ),
]
KeyPolicyOutput = Annotated[Path, typer.Option("--to", metavar="FILE", help="The key policy.")]
IamOutput = Annotated[
    Path | None,
    typer.Option(
        "--iam-to",
        metavar="FILE",
        help="The IAM policy for the operator's roles; default: key-policy.iam.json, by its name.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Irrevocable = Annotated[
    bool,
    typer.Option(
        "--irrevocable", help="Leave out PutKeyPolicy: nobody can ever change the policy, not even you."
    ),
]


def kms(
    policy: PolicyFile,
    admin: Admin,
    parent: OperatorRoles,
    context: SealingContext,
    to: KeyPolicyOutput = Path("key-policy.json"),
    iam_to: IamOutput = None,
    key: KeyArn = None,
    at: At = "now",
    irrevocable: Irrevocable = False,
    force: Force = False,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Compile a key policy of AWS KMS from a policy.

    The key policy releases the key to enclaves of the policy's releases, until each expires. There is one
    statement for each release, with every register that it pins, and guards against the known ways around.
    The policy has to accept nitro alone, and its releases have to pin PCR16. The IAM policy for the operator
    is written beside it. Nothing calls AWS: the output has the commands that do.

    Examples:
      enclavectl policy kms --policy p --admin A --parent B --context m=x  both
    """
    screen = screen_for(output)
    iam_to = to.parent / f"{to.stem}.iam.json" if iam_to is None else iam_to
    _check_targets(to, iam_to, policy, may_exist=force or dry_run, writes=not dry_run)
    when = moment("--at", at)
    found = read_policy(policy)
    request = request_from_policy(
        found,
        admin=admin,
        parents=tuple(parent),
        context=parse_pairs("--context", context),
        at=when,
        irrevocable=irrevocable,
    )
    if key is not None:
        check_key(request, key)
    made = _Made(
        to=to,
        iam_to=iam_to,
        key_policy=compile_key_policy(request),
        iam_policy=operator_policy(key),
        commands=put_commands(str(to), request, key, iam_file=str(iam_to)),
        is_dry_run=dry_run,
    )
    if not dry_run:
        made.write()
    if screen.as_json:
        screen.result({"schema": KMS_SCHEMA, **made.to_json(_answer(found, request, when))})
        return
    _draw(screen, found, request, when)
    made.draw(screen)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """The two policies, where they go, and the commands that put them."""

    to: Path
    iam_to: Path
    key_policy: KeyPolicy
    iam_policy: dict[str, object]
    commands: tuple[str, ...]
    is_dry_run: bool

    def write(self) -> None:
        """Write both files, or neither where a disk is full."""
        iam_policy = f"{json.dumps(self.iam_policy, indent=2)}\n".encode()
        with (
            stage_file(self.to.parent, mode=0o644) as first,
            stage_file(self.iam_to.parent, mode=0o644) as second,
        ):
            first.file.write(self.key_policy.to_bytes())
            second.file.write(iam_policy)
            first.sync()
            second.sync()
            first.commit(self.to)
            second.commit(self.iam_to)

    def to_json(self, releases: dict[str, object]) -> dict[str, object]:
        """Return the command's object; ``releases`` says which releases are in it and which are not."""
        return {
            "file": str(self.to),
            "written": not self.is_dry_run,
            "bytes": len(self.key_policy.to_bytes()),
            **releases,
            "key_policy": self.key_policy.to_json(),
            "iam_file": str(self.iam_to),
            "iam_policy": self.iam_policy,
            "commands": list(self.commands),
        }

    def draw(self, screen: Screen) -> None:
        """Draw where both are, in a dry run what they are, and the commands."""
        written = ", not written:" if self.is_dry_run else ""
        size = len(self.key_policy.to_bytes())
        screen.facts([("key policy", f"{self.to}, {size} bytes{written}")])
        if self.is_dry_run:
            draw_json(screen, [self.key_policy.to_json()])
        screen.facts([("IAM policy", f"{self.iam_to}, for the operator's roles{written}")])
        if self.is_dry_run:
            draw_json(screen, [self.iam_policy])
        screen.heading("Commands, the first for the model owner, the others for the operator:")
        for command in self.commands:
            typer.echo(command)


def _check_targets(to: Path, iam_to: Path, policy: Path, *, may_exist: bool, writes: bool) -> None:
    """Refuse targets that cannot be written, are an input, one and the same, or there already.

    Without ``writes`` nothing is tried, only looked at.

    Raises:
        UsageError: one cannot be written or is an input, or both are the same.
        StateError: one exists already.
    """
    require_distinct([("--to", to), ("--iam-to", iam_to)])
    for option, one in (("--to", to), ("--iam-to", iam_to)):
        require_replaceable(one)  # first: the other one tries the folder, and /dev is no place for that
        require_output(option, one, size=int(writes))
        refuse_input(option, one, [policy])
        if status_at(one) is not None and not may_exist:
            raise StateError(f"{option} {one}: exists already", hint="--force replaces it")


def _answer(policy: Policy, request: KeyPolicyRequest, at: datetime) -> dict[str, object]:
    kept = {one.name for one in request.releases}
    return {
        "at": time_json(at),
        "releases": [
            {
                "name": one.name,
                "sid": one.sid,
                "not_before": time_json(one.not_before),
                "expires": time_json(one.expires),
            }
            for one in request.releases
        ],
        "left_out": [
            {"name": one.name, "state": str(policy.state_of(one, at))}
            for one in policy.releases
            if one.name not in kept
        ],
        "irrevocable": request.irrevocable,
    }


def _draw(screen: Screen, policy: Policy, request: KeyPolicyRequest, at: datetime) -> None:
    screen.table(
        ("RELEASE", "STATEMENT", "UNTIL"),
        [(one.name, one.sid, time_json(one.expires) or "for ever") for one in request.releases],
    )
    kept = {one.name for one in request.releases}
    for one in policy.releases:
        if one.name not in kept:
            screen.note(f"release {one.name} is left out: {policy.state_of(one, at)}")
    for release in request.releases:
        if release.expires is None:
            screen.note(f"release {release.name} never expires: only another key policy ends it")
    if request.is_in_operators_account:
        screen.note("the key would be in the operator's account, whose administrators can get at it (K32)")
    if request.irrevocable:
        screen.note("once it is put, nobody can change this policy: a new release then needs a new key")
