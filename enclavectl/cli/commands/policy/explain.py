"""``enclavectl policy explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.attestation import Explanation
from enclavectl.attestation import explain as explain_registers
from enclavectl.attestation.policy_json import revocation_json, time_json
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.policy_arguments import PolicyPath, moment, read_claims, read_policy
from enclavectl.cli.policy_view import draw_explanation
from enclavectl.cli.screen import error_value

EXPLAIN_SCHEMA = "enclavectl.policy-explain/1"

DocumentPath = Annotated[
    Path, typer.Argument(metavar="DOCUMENT", help="A document (binary, hex or base64), or an evidence file.")
]
At = Annotated[
    str,
    typer.Option(
        "--at", metavar="TIME", help="The time to judge: now, document (its own), a date, or a time in UTC."
    ),
]


def explain(
    file: PolicyPath, document: DocumentPath, at: At = "now", output: Output = OutputFormat.TEXT
) -> None:
    """Say why a policy accepts a document's registers, or why not.

    Compares the document with every release, the nearest one register by register. The document itself is not
    verified: anybody can write registers into a file. Exit code 4 if the policy refuses them.

    Examples:
      enclavectl policy explain p.yaml doc.bin                which PCR differs?
      enclavectl policy explain p.yaml e.json --at document   at the document's time
    """
    screen = screen_for(output)
    policy = read_policy(file)
    claims = read_claims(document)
    when = claims.timestamp if at == "document" else moment("--at", at, words="now, document")
    found = explain_registers(policy, claims, at=when)
    if screen.as_json:
        screen.result(_to_json(file, document, found))
    else:
        screen.note("the document's signature was not verified: its registers are anybody's claims")
        draw_explanation(screen, found)
        if found.accepted is not None:
            screen.facts([("verdict", f"release {found.accepted.name} accepts these registers")])
    if found.refusal is not None:
        found.refusal.after_answer = True
        raise found.refusal


def _to_json(file: Path, document: Path, found: Explanation) -> dict[str, object]:
    return {
        "schema": EXPLAIN_SCHEMA,
        "file": str(file),
        "document": str(document),
        "signature_verified": False,
        "at": time_json(found.at),
        "debug": found.is_debug,
        "accepted": None if found.accepted is None else found.accepted.name,
        "refusal": None if found.refusal is None else error_value(found.refusal),
        "revocation": None if found.revocation is None else revocation_json(found.revocation),
        "releases": [
            {
                "name": one.release.name,
                "label": one.release.label,
                "state": str(one.state),
                "matches": one.comparison.is_match,
                "registers": [
                    {
                        "pcr": register.index,
                        "result": str(register.state),
                        "expected": register.expected.hex(),
                        "found": None if register.found is None else register.found.hex(),
                    }
                    for register in one.comparison.registers
                ],
            }
            for one in found.judged
        ],
    }
