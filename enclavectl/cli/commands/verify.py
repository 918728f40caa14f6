"""``enclavectl verify``: judge evidence that somebody kept, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.evidence_options import LockPath
from enclavectl.cli.invocation import refuse_together, screen_for
from enclavectl.cli.options import AnotherRoot, Output, OutputFormat
from enclavectl.errors import UsageError

EvidencePath = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="An evidence file or a document; with --document a receipt, or a batch's .receipts.jsonl.",
    ),
]
PolicyPath = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="A policy: what the enclave must prove.")
]
NoPolicy = Annotated[
    bool, typer.Option("--no-policy", help="Accept any enclave, of any code: only who signed is judged.")
]
PolicyFromEvidence = Annotated[
    bool,
    typer.Option(
        "--policy-from-evidence",
        help="Use the policy that the evidence file carries: the word of whoever made the file.",
    ),
]
Nonce = Annotated[
    str | None,
    typer.Option(
        "--nonce",
        metavar="HEX",
        help="The nonce that you drew for this document; only with it a document is fresh.",
    ),
]
At = Annotated[
    str,
    typer.Option(
        "--at",
        metavar="TIME",
        help=(
            "The time of judgement: now, document (its own), a date (its first moment in UTC), "
            "or a time with its zone."
        ),
    ),
]
DocumentPath = Annotated[
    Path | None,
    typer.Option(
        "--document",
        metavar="FILE",
        help="The document, or the evidence file, of the session that gave the receipt.",
    ),
]
PicturePath = Annotated[
    Path | None, typer.Option("--picture", metavar="FILE", help="The picture that the answer must be about.")
]
ReportPath = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Also write the result as an HTML page.")
]
Force = Annotated[bool, typer.Option("--force", help="Let --report write over a file that is no report.")]


def verify(
    file: EvidencePath,
    policy: PolicyPath = None,
    lock: LockPath = None,
    no_policy: NoPolicy = False,
    policy_from_evidence: PolicyFromEvidence = False,
    root: AnotherRoot = None,
    nonce: Nonce = None,
    at: At = "now",
    document: DocumentPath = None,
    picture: PicturePath = None,
    report: ReportPath = None,
    force: Force = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Judge an attestation document, an evidence file or a receipt.

    Works offline. Prints every step with what it saw, also where one fails. Exit code 0 only if all passed
    and a policy was met, 4 if one failed or there was no policy, 2 if there is no document at all or a file
    of an option (policy, lock, root, picture) cannot be used.

    A document counts for the policy's max_age_s, 5 minutes by default, and for three hours at most. To judge
    one that was kept, use --at document: its own time.

    Examples:
      enclavectl verify doc.bin --no-policy               only who signed
      enclavectl verify e.json --policy p.yaml            what was kept just now
      enclavectl verify --at document e.json --lock lock  what was kept long ago
      enclavectl verify a.air --document e.json --lock l  an answer's receipt
      enclavectl verify r.jsonl --document e.json --lock l  a batch's receipts
    """
    # Imported here: the parser of the command line needs none of it.
    from enclavectl.cli.judgement_view import show_verification  # noqa: PLC0415 - see above
    from enclavectl.cli.verify_inputs import CaseFiles, PolicyChoice, read_case  # noqa: PLC0415 - see above
    from enclavectl.evidence.examination import examine  # noqa: PLC0415 - see above
    from enclavectl.evidence.verification import unreadable  # noqa: PLC0415 - see above

    screen = screen_for(output)
    refuse_together(
        policy=policy, lock=lock, **{"no-policy": no_policy, "policy-from-evidence": policy_from_evidence}
    )
    if force and report is None:
        raise UsageError("--force: expected --report FILE as well")
    if report is not None:
        _check_report(report, [file, document, picture, policy, lock, root], force=force)
    files = CaseFiles(
        file=file,
        document=document,
        picture=picture,
        root=root,
        policy=PolicyChoice(
            policy=policy, lock=lock, is_waived=no_policy, is_the_provers=policy_from_evidence
        ),
        nonce=nonce,
        at=at,
    )
    found = read_case(files)
    verification = unreadable(found) if isinstance(found, Exception) else examine(found)
    show_verification(screen, verification, name=str(file), report=report)


def _check_report(path: Path, inputs: list[Path | None], *, force: bool) -> None:
    """Refuse now what could not be written, or would destroy an input."""
    # Reports import Pillow, and few command lines ask for a report.
    from enclavectl.results.report import check_target  # noqa: PLC0415 - see above

    names = [str(one) for one in inputs if one is not None]
    check_target(path, names, 1, force=force, hint="give the report a name of its own: --report audit.html")
