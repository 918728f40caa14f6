"""A verification as a page for auditors: the verdict, what it rests on, every step, what it proves."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from enclavectl.attestation.chain import TIME
from enclavectl.evidence.verification import NO_POLICY_STEP, Check, Verification
from enclavectl.files import write_atomic
from enclavectl.results.evidence_wording import claims_of
from enclavectl.results.html import render_claims, render_facts, render_frame
from enclavectl.results.judgement import (
    PROVERS_POLICY,
    Answered,
    answers_of,
    shown_checks,
    summary_lines,
    verdict,
)
from enclavectl.results.markup import text
from enclavectl.results.page_files import old_pages, remove_pages
from enclavectl.results.wording import TrustWords
from enclavectl.trust import Trust

_STATES = {True: "passed", False: "FAILED", None: "not checked"}
_TITLE = "Attestation evidence"


def write_audit_page(path: Path, verification: Verification, *, name: str) -> None:
    """Write the page on the evidence that the file ``name`` held.

    Raises:
        HostError: the page could not be written, or the pages of an earlier report could not be removed.
    """
    write_atomic(path, render_audit_page(verification, name=name).encode())
    remove_pages(old_pages(path, 1))


def render_audit_page(verification: Verification, *, name: str) -> str:
    """Render the page. Every text of the evidence is escaped: its author may be anybody."""
    proven, not_proven = claims_of(verification)
    return render_frame(
        _banner(verification),
        _TITLE,
        f'<div>\n<h1>{_TITLE}</h1>\n<p class="quiet">File <bdi>{text(name)}</bdi></p>\n</div>',
        render_facts("In short", summary_lines(verification)),
        *map(_answer, answers_of(verification)),
        render_claims(proven or ["Nothing."], not_proven),
        _checklist(shown_checks(verification)),
        _document(verification),
    )


def _banner(verification: Verification) -> TrustWords:
    facts, error = verification.facts, verification.error
    # Calm only where AWS signed for code that a policy names. All else needs a second look.
    is_calm = (
        verification.verified
        and facts is not None
        and facts.trust is Trust.NITRO
        and verification.release is not None
        and not verification.is_provers_policy
    )
    if error is not None:
        sentence = f"{error.message}."
    elif verification.is_provers_policy:
        sentence = f"Every step passed, but {PROVERS_POLICY}."
    elif is_calm:
        sentence = "The document is signed under the AWS Nitro root and satisfied the policy of the verifier."
    else:
        sentence = "Every step passed, but the evidence is not that of a measured enclave on AWS hardware."
    return TrustWords(
        badge=verdict(verification), sentence=sentence, calm=is_calm, proves=(), does_not_prove=()
    )


def _checklist(checks: Sequence[Check]) -> str:
    rows = "\n".join(
        f'<tr{"" if one.ok is not False else " class=first"}><th scope="row">{text(one.id)}</th>'
        f"<td>{_state(one)}</td><td>{text(one.seen)}</td></tr>"
        for one in checks
    )
    return f"""<section class="card"><h2>Every step of the verification</h2>
<table><thead><tr><th scope="col">Step</th><th scope="col">Result</th><th scope="col">Seen</th></tr></thead>
<tbody>
{rows}
</tbody></table></section>"""


def _state(check: Check) -> str:
    return "none" if check.ok is False and check.id == NO_POLICY_STEP else _STATES[check.ok]


def _answer(answer: Answered) -> str:
    pairs = [(f"{name} ({code})", f"{share:.1%}") for code, name, share in answer.shares]
    about = [("Model", answer.model_id), ("Signed", f"{answer.signed:{TIME}}")]
    if answer.picture_sha256 is not None:
        about.append(("Picture SHA-256", answer.picture_sha256))
    return render_facts("The answer", [*about, *pairs])


def _document(verification: Verification) -> str:
    facts, case = verification.facts, verification.case
    if facts is None or case is None:
        return ""
    pairs = [
        ("Document SHA-256", sha256(case.document).hexdigest()),
        ("Module", facts.module_id),
        ("Time", facts.timestamp.isoformat(timespec="milliseconds")),
        ("Root SHA-256", facts.root_fingerprint),
        *((f"PCR{index}", value.hex()) for index, value in sorted(facts.pcrs.items())),
    ]
    if case.policy_sha256 is not None:
        pairs.append(("Judged by the policy or lock with the SHA-256", case.policy_sha256))
    if case.evidence is not None:
        evidence = case.evidence
        pairs += [("Written by", evidence.tool), ("Policy at the session", evidence.policy_sha256 or "none")]
        pairs.append(("Lock at the session", evidence.lock_sha256 or "none"))
    return render_facts("The document", pairs)
