"""A verification for people and programs: the verdict, the lines that are always there, the JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import groupby

from enclavectl.attestation import Policy, Step
from enclavectl.attestation.chain import TIME
from enclavectl.attestation.times import render_time
from enclavectl.evidence.file import EvidenceCode
from enclavectl.evidence.verification import (
    NO_POLICY_STEP,
    NOT_REACHED,
    Case,
    Check,
    CheckedReceipt,
    PolicySource,
    Verification,
    Waiver,
)
from enclavectl.protocol.answers import PARTS_PER_BILLION, Outcome
from enclavectl.protocol.key_config import MODEL_PCR
from enclavectl.trust import Trust

SCHEMA = "enclavectl.verification/1"
# As many lines as leave the verdict on the screen.
_RECEIPTS_SHOWN = 10

PROVERS_POLICY = "the policy is the prover's: whoever made the evidence file chose what is enough"


def verdict(verification: Verification) -> str:
    """Return the first line: what became of the evidence, in capitals, and why it counts for less."""
    error, facts = verification.error, verification.facts
    if error is None:
        less = [] if facts is None or facts.trust is Trust.NITRO else [f"trust {facts.trust}"]
        less += ["BY THE PROVER'S OWN POLICY"] if verification.is_provers_policy else []
        return f"VERIFIED ({', '.join(less)})" if less else "VERIFIED"
    return "NOT JUDGED" if error.code == EvidenceCode.NO_POLICY else f"REFUSED ({error.code})"


def summary_lines(verification: Verification) -> list[tuple[str, str]]:
    """Return the lines that stand in every answer, whatever the verdict; then why answers are not shown."""
    lines = [
        ("trust", _trust(verification)),
        ("time", _time(verification)),
        ("release", _release(verification)),
        ("model", _model(verification)),
        ("receipt", _receipt(verification)),
    ]
    if (withheld := withheld_answers(verification)) > 0:
        lines.append(("answer", _withheld(verification, withheld)))
    if (others := answers_of_other_pictures(verification)) > 0:
        what = "1 other answer is" if others == 1 else f"{others} other answers are"
        lines.append(("answer", f"{what} not shown: only those about your picture are"))
    return lines


def shown_checks(verification: Verification) -> list[Check]:
    """Return the checklist for people: of a batch's many receipts, those that are alike as one line.

    The JSON object has every check.
    """
    shown: list[Check] = []
    for (is_receipt, ok), alike in groupby(
        verification.checks, key=lambda check: (check.id.startswith("receipt-"), check.ok)
    ):
        found = list(alike)
        if is_receipt and len(found) > _RECEIPTS_SHOWN:
            seen = f"{len(found)}, {found[0].id} to {found[-1].id}: {'passed' if ok else NOT_REACHED}"
            found = [Check(id="receipts", ok=ok, seen=seen)]
        shown += found
    return shown


def verification_json(verification: Verification) -> dict[str, object]:
    """Return the ``enclavectl.verification/1`` object."""
    facts, card, error = verification.facts, verification.card, verification.error
    judged_at, release = verification.judged_at, verification.release
    return {
        "schema": SCHEMA,
        "verified": verification.verified,
        "trust": None if facts is None else str(facts.trust),
        "fresh": verification.is_fresh,
        "judged_at": None if judged_at is None else _iso(judged_at),
        "module_id": None if facts is None else facts.module_id,
        "timestamp": None if facts is None else _iso(facts.timestamp),
        "root": None if facts is None else {"name": facts.root, "sha256": facts.root_fingerprint},
        "pcrs": {} if facts is None else {str(index): value.hex() for index, value in facts.pcrs.items()},
        "release": None if release is None else release.name,
        "policy": _policy_json(verification),
        "model": {
            "pinned": verification.is_model_pinned,
            "id": None if card is None else card.model_id,
            "sha256": None if card is None else card.sha256,
        },
        "receipts": [_receipt_json(one) for one in verification.receipts],
        "answers": [one.to_json() for one in answers_of(verification)],
        "answers_withheld": withheld_answers(verification),
        "answers_of_other_pictures": answers_of_other_pictures(verification),
        "checks": [{"id": one.id, "ok": one.ok, "seen": one.seen} for one in verification.checks],
        "error": None if error is None else {"code": error.code, "message": error.message},
    }


def _unknown(verification: Verification) -> str:
    """Return why nothing is known of what the document says."""
    failed = verification.failed
    if failed is not None and failed.id == Step.SIGNATURE:
        return "nothing is known: the signature is not of the document's leaf certificate"
    where = "" if failed is None else f": it stopped at {failed.id}"
    return f"nothing is known: the signature was not reached{where}"


def _trust(verification: Verification) -> str:
    facts, failed = verification.facts, verification.failed
    if facts is None:
        if failed is not None and failed.id == Step.SIGNATURE:
            return "none: the signature was checked, and it is false"
        return f"none: no signature was checked{'' if failed is None else f'; it stopped at {failed.id}'}"
    words = {
        Trust.NITRO: "the AWS Nitro root signed for an enclave whose code is measured",
        Trust.DEBUG: "signed, but in debug mode: nothing measures the code, and the console can be read",
        Trust.EMULATED: "QEMU measured the image; nobody signed",
        Trust.SIMULATED: "a development key signed; it protects nothing and proves the form only",
    }
    return f"{facts.trust}: {words[facts.trust]}"


def _time(verification: Verification) -> str:
    judged_at, case, facts = verification.judged_at, verification.case, verification.facts
    if case is None or judged_at is None:
        return _unknown(verification)
    signed = "" if facts is None else f"signed {facts.timestamp:{TIME}}, "
    if verification.is_fresh:
        return f"fresh: {signed}in answer to your nonce, and judged now, {judged_at:{TIME}}"
    if case.at is Waiver.DOCUMENT_TIME:
        when = "at its own time"
    else:
        when = f"{'now' if case.is_now else 'at the time that you gave'}, {judged_at:{TIME}}"
    return f"archived: {signed}judged {when}; {_why_not_fresh(verification, case)}"


def _why_not_fresh(verification: Verification, case: Case) -> str:
    """Return what was missing of the three, a judgement now, a nonce and a policy, or which step failed."""
    failed = None if verification.failed is None else verification.failed.id
    if failed in {Step.FRESHNESS, Step.NONCE}:
        return f"not fresh: the step {failed} failed"
    if case.at is Waiver.DOCUMENT_TIME or not case.is_now:
        why = "that takes a judgement now"
    elif case.nonce is Waiver.NO_NONCE:
        why = "without a nonce of yours this may be a recording"
    elif not isinstance(case.policy, Policy):
        why = "no policy says how old it may be"
    else:
        return f"not fresh: the step {failed} failed"
    return f"freshness was not checked: {why}"


def _release(verification: Verification) -> str:
    release, judged_at, facts = verification.release, verification.judged_at, verification.facts
    if release is not None and judged_at is not None:
        start = "" if release.not_before is None else f" from {render_time(release.not_before)}"
        end = "" if release.expires is None else f" until {render_time(release.expires)}"
        life = f" (valid{start}{end})" if start or end else ""
        whose = f"; but {PROVERS_POLICY}" if verification.is_provers_policy else ""
        return f"{release.name}, valid at {judged_at:{TIME}}{life}{whose}"
    policy = None if verification.case is None else verification.case.policy
    if not isinstance(policy, Policy):
        return "none: without a policy any code passes"
    if facts is None:
        return _unknown(verification)
    if (stopped := _stopped_before_release(verification)) is not None:
        return stopped
    return "none: nothing measures the code of a debug enclave"


def _stopped_before_release(verification: Verification) -> str | None:
    """Return why no release passed, where the judgement stopped at that step or before it."""
    failed = verification.failed
    check = next((one for one in verification.checks if one.id == Step.RELEASE), None)
    if failed is None or check is None:
        return None
    if check is failed:
        return f"none passed: {failed.seen}"
    return f"not reached: it stopped at {failed.id}" if check.seen == NOT_REACHED else None


def _model(verification: Verification) -> str:
    facts, card = verification.facts, verification.card
    if facts is None:
        return _unknown(verification)
    named = "" if card is None else f"; the attested card names {card.model_id} ({card.sha256[:16]}...)"
    if verification.is_model_pinned:
        return f"pinned by PCR{MODEL_PCR}{named}"
    register = facts.pcrs.get(MODEL_PCR)
    if register is None or not any(register):
        measured = f"the document has no PCR{MODEL_PCR}"
    else:
        measured = f"the document has PCR{MODEL_PCR} ({register.hex()[:16]}...)"
    policy = None if verification.case is None else verification.case.policy
    # A release that was refused, such as a revoked one, may well have pinned it.
    is_refused = isinstance(policy, Policy) and _stopped_before_release(verification) is not None
    state = "not judged, as no release passed" if is_refused else "not pinned"
    return f"{state}: {measured}{named}"


def _receipt(verification: Verification) -> str:
    count, checked = (
        0 if verification.case is None else len(verification.case.receipts),
        verification.receipts,
    )
    if not count:
        return "none"
    if len(checked) < count:
        rest = count - len(checked)
        return f"{rest} of {count} {'was' if rest == 1 else 'were'} refused or not reached"
    told = sum(one.outcome is not None for one in checked)
    what = "a signed receipt" if count == 1 else f"{count} signed receipts"
    kept = f"{told} with the answer"
    if told < count:
        kept += f", {count - told} WITHOUT: what was answered is not shown"
    mode = "" if all(one.receipt.security_mode == "production" for one in checked) else "; mode evaluation"
    return f"{what} of {checked[0].receipt.model_id}; {kept}{mode}"


def document_lines(verification: Verification) -> list[tuple[str, str]]:
    """Return what was judged, by its hashes and registers, and by which policy; none if nothing is known."""
    facts, case = verification.facts, verification.case
    if facts is None or case is None:
        return []
    lines = [
        ("SHA-256", sha256(case.document).hexdigest()),
        ("module", facts.module_id),
        ("root", f"{facts.root}, SHA-256 {facts.root_fingerprint}"),
    ]
    if case.policy_source is not None:
        what = {
            PolicySource.FILE: "your policy",
            PolicySource.LOCK: "your lock",
            PolicySource.EVIDENCE: "THE PROVER'S policy",
        }[case.policy_source]
        lines.append(("policy", f"{what}, SHA-256 {case.policy_sha256}"))
    pinned = () if verification.release is None else verification.release.pcrs
    for index, value in sorted(facts.pcrs.items()):
        if any(value) or index in pinned:
            lines.append((f"PCR{index}", value.hex() + (" pinned" if index in pinned else "")))
    return lines


def withheld_answers(verification: Verification) -> int:
    """Return how many answers were read and are not shown, because the verification failed after them."""
    return 0 if verification.verified else sum(one.outcome is not None for one in verification.receipts)


def answers_of_other_pictures(verification: Verification) -> int:
    """Return how many answers are not shown because they are not known to be about the case's picture."""
    if not verification.verified:
        return 0
    told, shown = (
        sum(one.outcome is not None for one in receipts)
        for receipts in (verification.receipts, verification.receipts_of_picture)
    )
    return told - shown


def _withheld(verification: Verification, count: int) -> str:
    read = "1 answer was read" if count == 1 else f"{count} answers were read"
    failed = verification.failed
    if failed is None or failed.id == NO_POLICY_STEP:
        return f"NOT SHOWN: {read}, but no policy says which code may answer"
    return f"NOT SHOWN: {read}, but the check of {failed.id} failed"


def answers_of(verification: Verification) -> list[Answered]:
    """Return the answers that receipts were kept with, the most probable label first.

    Evidence that is not verified has none: an answer beside a refusal would be read as if it stood. Where a
    picture is meant, the answers about others are not among them.
    """
    if not verification.verified:
        return []
    names = {} if verification.card is None else {one.code: one.name for one in verification.card.labels}
    found = []
    for one in verification.receipts_of_picture:
        if one.outcome is None or (probabilities := _by_code(one.outcome)) is None:
            continue
        ranked = sorted(probabilities.items(), key=lambda item: -item[1])
        shares = tuple((code, names.get(code, code), parts / PARTS_PER_BILLION) for code, parts in ranked)
        found.append(
            Answered(
                model_id=one.receipt.model_id,
                signed=one.receipt.issued_at,
                picture_sha256=None if one.asked is None else one.asked.picture_sha256.hex(),
                shares=shares,
            )
        )
    return found


def _by_code(outcome: Outcome) -> Mapping[str, int] | None:
    """Return the probabilities by label code; without a card the labels are known by their index only."""
    if outcome.probabilities_ppb is not None or outcome.top_ppb is None:
        return outcome.probabilities_ppb
    return {f"output-{index}": parts for index, parts in outcome.top_ppb.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer that a receipt vouches for. ``shares`` are code, name and probability of each label."""

    model_id: str
    signed: datetime
    picture_sha256: str | None
    shares: tuple[tuple[str, str, float], ...]

    def to_json(self) -> dict[str, object]:
        """Return an element of ``answers``."""
        return {
            "model": self.model_id,
            "signed": _iso(self.signed),
            "picture_sha256": self.picture_sha256,
            "probabilities": {code: share for code, _, share in self.shares},
        }


def _policy_json(verification: Verification) -> dict[str, object] | None:
    case = verification.case
    if case is None or case.policy_source is None:
        return None
    return {"source": str(case.policy_source), "sha256": case.policy_sha256}


def _receipt_json(checked: CheckedReceipt) -> dict[str, object]:
    receipt = checked.receipt
    return {
        "sha256": sha256(receipt.raw).hexdigest(),
        "sequence_number": receipt.sequence_number,
        "signed": _iso(receipt.issued_at),
        "model": receipt.model_id,
        "mode": str(receipt.security_mode),
    }


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
