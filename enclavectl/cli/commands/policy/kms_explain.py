"""``enclavectl policy kms-explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.invocation import screen_for
from enclavectl.cli.kms_arguments import Context, KeyArn, KeyPolicyPath, parse_pairs, read_key_policy
from enclavectl.cli.kms_view import draw_verdict
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.policy_arguments import moment, read_claims
from enclavectl.errors import AttestationError, UsageError
from enclavectl.kms import Call, Recipient, explain_call, parse_caller
from enclavectl.kms.actions import ACTIONS, PREFIX
from enclavectl.kms.principals import account_of_key
from enclavectl.suggest import suggestion

EXPLAIN_SCHEMA = "enclavectl.policy-kms-explain/1"

DocumentPath = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DOCUMENT]",
        help="The call's document (binary, hex, base64), or an evidence file; default: a call without one.",
    ),
]
Principal = Annotated[
    str, typer.Option("--principal", metavar="ARN", help="Who calls: a role, its session, or a user.")
]
Action = Annotated[str, typer.Option("--action", metavar="ACTION", help="What is called.")]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="KEY=VALUE",
        help="Another condition key of the call, such as aws:SourceIp=192.0.2.1; may be repeated.",
    ),
]
WithoutIam = Annotated[
    bool, typer.Option("--without-iam", help="The caller has no IAM policy that allows the call.")
]
At = Annotated[
    str,
    typer.Option(
        "--at", metavar="TIME", help="When: now, document (its own time), a date, or a time in UTC."
    ),
]


def kms_explain(
    file: KeyPolicyPath,
    principal: Principal,
    document: DocumentPath = None,
    action: Action = "Decrypt",
    context: Context = None,
    key: KeyArn = None,
    condition: Keys = None,
    without_iam: WithoutIam = False,
    at: At = "now",
    output: Output = OutputFormat.TEXT,
) -> None:
    """Say whether a key policy lets a call through, and what decides.

    Evaluates the policy as KMS does, and names the statement and the condition key that decided; KMS itself
    says only AccessDenied. The document's signature is not verified here. Exit code 4 if the call is refused.

    Examples:
      enclavectl policy kms-explain k.json doc --principal ARN  an enclave's call
      enclavectl policy kms-explain k.json --principal ARN      without a document
    """
    screen = screen_for(output)
    policy = read_key_policy(file)
    claims = None if document is None else read_claims(document)
    if key is not None:
        account_of_key(key)
    if at == "document" and claims is None:
        raise UsageError("--at document: expected a document, found none")
    call = Call(
        caller=parse_caller(principal),
        action=_known_action(action),
        at=claims.timestamp
        if claims is not None and at == "document"
        else moment("--at", at, words="now, document"),
        key=key,
        context=parse_pairs("--context", context or []),
        recipient=None if claims is None else Recipient(pcrs=claims.pcrs),
        iam_allows=not without_iam,
        keys=parse_pairs("--condition", condition or [], example="aws:SourceIp=192.0.2.1"),
    )
    found = explain_call(policy, call)
    if screen.as_json:
        names = {"file": str(file), "document": None if document is None else str(document)}
        screen.result({"schema": EXPLAIN_SCHEMA, **names, **found.to_json()})
    else:
        draw_verdict(screen, found)
    if not found.verdict.allowed:
        raise typer.Exit(AttestationError.exit_code)


def _known_action(text: str) -> str:
    """Return the action's name without ``kms:``, as AWS spells it."""
    name = text[len(PREFIX) :] if text.lower().startswith(PREFIX) else text
    found = {one.lower(): one for one in ACTIONS}.get(name.lower())
    if found is None:
        raise UsageError(
            f"--action: {text!r:.60} is no action of KMS; {suggestion(name, ACTIONS)}",
            hint="Decrypt is what opens sealed weights",
        )
    return found
