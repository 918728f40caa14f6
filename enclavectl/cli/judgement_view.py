"""The drawing of a verification: the verdict, the lines that are always there, the checklist."""

from __future__ import annotations

from pathlib import Path

from enclavectl.attestation import AttestationCode
from enclavectl.cli.screen import Screen
from enclavectl.errors import AttestationError, HostError, visible
from enclavectl.evidence.file import EvidenceCode
from enclavectl.evidence.verification import NO_POLICY_STEP, Check, Verification
from enclavectl.results.evidence_wording import claims_of
from enclavectl.results.judgement import (
    PROVERS_POLICY,
    answers_of,
    document_lines,
    shown_checks,
    summary_lines,
    verdict,
    verification_json,
)

# Of a document that was kept, this is what one expects: not a wrong clock.
_OLD = {AttestationCode.CHAIN_EXPIRED, AttestationCode.TOO_OLD}
_OLD_HINT = (
    "A document counts for the policy's max_age_s, three hours at most. For one that was kept: --at document "
    "judges it at its own time."
)
# The certificates' time is told with the refusal, and a person who named a time meant one in between.
_APART = {AttestationCode.CHAIN_EXPIRED, AttestationCode.CHAIN_NOT_YET_VALID, AttestationCode.FROM_THE_FUTURE}
_APART_HINT = "--at names the time of judgement; --at document judges the document at its own time."
_MARKS = {True: "ok", False: "FAILED", None: "-"}


def show_verification(
    screen: Screen,
    verification: Verification,
    *,
    name: str,
    report: Path | None = None,
    may_lack_policy: bool = False,
) -> None:
    """Print the verification, write the report, and end as the verdict says.

    With ``may_lack_policy`` evidence that lacks nothing but a policy is no failure.

    Raises:
        AttestationError: the evidence was not verified; it has been printed.
        HostError: the evidence was verified, but the report could not be written.
    """
    screen.outlive_reader()  # the verdict is in the exit code
    if screen.as_json:
        screen.result(verification_json(verification))
    else:
        draw_verification(screen, verification, name)
    if verification.is_provers_policy:
        screen.note(f"--policy-from-evidence: {PROVERS_POLICY}")
    if report is not None:
        _write_report(screen, report, verification, name)
    is_unjudged = verification.error is not None and verification.error.code == EvidenceCode.NO_POLICY
    if is_unjudged and may_lack_policy:
        screen.note("NOT JUDGED, which is no failure here: name what is enough with --policy or --lock")
    elif verification.error is not None:
        verification.error.after_answer = True
        verification.error.hint = _hint(verification, verification.error)
        raise verification.error


def _write_report(screen: Screen, report: Path, verification: Verification, name: str) -> None:
    """Write the page. Where that fails, a refusal is still what the command ends with.

    Raises:
        HostError: as ``show_verification``.
    """
    # Pages import the report's style, and few command lines ask for one.
    from enclavectl.results.audit_page import write_audit_page  # noqa: PLC0415 - see above

    try:
        write_audit_page(report, verification, name=name)
    except HostError as error:
        if verification.error is None:
            error.after_answer = True  # the JSON object has been written, and is the only one
            raise
        screen.note(f"no report was written: {error.message}")
        return
    screen.note(f"report written to {report}")


def _hint(verification: Verification, error: AttestationError) -> str | None:
    if verification.case is None:
        return error.hint
    if verification.case.is_now:
        return _OLD_HINT if error.code in _OLD else error.hint
    return _APART_HINT if error.code in _APART else error.hint


def draw_verification(screen: Screen, verification: Verification, name: str) -> None:
    """Draw the verification as plain lines; without Rich, whose import takes longer than the judgement."""
    lines = [f"{verdict(verification)}  {name}"]
    lines += _aligned(summary_lines(verification))
    for answer in answers_of(verification):
        about = "" if answer.picture_sha256 is None else f" for the picture {answer.picture_sha256}"
        lines += ["", f"answer of {answer.model_id}{about}"]
        lines += [f"  {code:<8} {share:6.1%}  {label}" for code, label, share in answer.shares]
    if document := document_lines(verification):
        lines += ["", "judged", *(f"  {line}" for line in _aligned(document))]
    lines += ["", "checklist", *map(_check_line, shown_checks(verification))]
    proves, does_not = claims_of(verification)
    if proves:
        lines += ["", "it proves", *(f"  {claim}" for claim in proves)]
    lines += ["", "it does not prove", *(f"  {claim}" for claim in does_not)]
    # Model and issuer of a receipt, and the name of a file, are text of strangers.
    screen.text("\n".join(map(visible, lines)))


def _aligned(pairs: list[tuple[str, str]]) -> list[str]:
    return [f"{name:<9} {value}" for name, value in pairs]


def _check_line(check: Check) -> str:
    # Nothing was tried that could fail.
    mark = "NONE" if check.ok is False and check.id == NO_POLICY_STEP else _MARKS[check.ok]
    return f"  {mark:<7}{check.id:<12} {check.seen}"
