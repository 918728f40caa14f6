"""A verification for people and programs: the verdict, the lines that are always there, the JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from enclavectl.attestation import Policy
from enclavectl.attestation.chain import TIME
from enclavectl.attestation.times import render_time
from enclavectl.evidence.file import EvidenceCode
from enclavectl.evidence.verification import CheckedReceipt, Verification, Waiver
from enclavectl.protocol.answers import PARTS_PER_BILLION, Outcome
from enclavectl.protocol.key_config import MODEL_PCR
from enclavectl.trust import Trust

SCHEMA = "enclavectl.verification/1"

_NOTHING_KNOWN = "nothing is known: the signature was not reached"


def verdict(verification: Verification) -> str:
    """Return the first line: what became of the evidence, in capitals."""
    error = verification.error
    if error is None:
        return "VERIFIED"
    return "NOT JUDGED" if error.code == EvidenceCode.NO_POLICY else f"REFUSED ({error.code})"


def summary_lines(verification: Verification) -> list[tuple[str, str]]:
    """Return the lines that stand in every answer, whatever the verdict."""
    return [
        ("trust", _trust(verification)),
        ("time", _time(verification)),
        ("release", _release(verification)),
        ("model", _model(verification)),
        ("receipt", _receipt(verification)),
    ]


def verification_json(verification: Verification) -> dict[str, object]:
    """Return the ``enclavectl.verification/1`` object."""
    facts, card, error = verification.facts, verification.card, verification.error
    judged_at, release = verification.judged_at, verification.release
    return {
        "schema": SCHEMA,
        "verified": verification.verified,
        "trust": None if facts is None else str(facts["trust"]),
        "fresh": verification.is_fresh,
        "judged_at": None if judged_at is None else _iso(judged_at),
        "module_id": None if facts is None else facts["module_id"],
        "timestamp": None if facts is None else _iso(facts["timestamp"]),
        "root": None if facts is None else {"name": facts["root"], "sha256": facts["root_fingerprint"]},
        "pcrs": {} if facts is None else {str(index): value.hex() for index, value in facts["pcrs"].items()},
        "release": None if release is None else release.name,
        "model": {
            "pinned": verification.is_model_pinned,
            "id": None if card is None else card.model_id,
            "sha256": None if card is None else card.sha256,
        },
        "receipts": [_receipt_json(one) for one in verification.receipts],
        "answers": [one.to_json() for one in answers_of(verification)],
        "checks": [{"id": one.id, "ok": one.ok, "seen": one.seen} for one in verification.checks],
        "error": None if error is None else {"code": error.code, "message": error.message},
    }


def _trust(verification: Verification) -> str:
    facts = verification.facts
    if facts is None:
        return "none: no signature was checked"
    words = {
        Trust.NITRO: "the AWS Nitro root signed for an enclave whose code is measured",
        Trust.DEBUG: "signed, but in debug mode: nothing measures the code, and the console can be read",
        Trust.EMULATED: "QEMU measured the image; nobody signed",
        Trust.SIMULATED: "a development key signed; it protects nothing and proves the form only",
    }
    return f"{facts['trust']}: {words[facts['trust']]}"


def _time(verification: Verification) -> str:
    judged_at, case, facts = verification.judged_at, verification.case, verification.facts
    if case is None or judged_at is None:
        return _NOTHING_KNOWN
    signed = "" if facts is None else f"signed {facts['timestamp']:{TIME}}, "
    if verification.is_fresh:
        return f"fresh: {signed}in answer to your nonce, and judged now, {judged_at:{TIME}}"
    if case.at is Waiver.DOCUMENT_TIME:
        return f"archived: {signed}judged at its own time; freshness was not checked"
    when = "now" if case.is_now else "at the time that you gave"
    return f"archived: {signed}judged {when}, {judged_at:{TIME}}; freshness was not checked"


def _release(verification: Verification) -> str:
    release, judged_at, facts = verification.release, verification.judged_at, verification.facts
    if release is not None and judged_at is not None:
        start = "" if release.not_before is None else f" from {render_time(release.not_before)}"
        end = "" if release.expires is None else f" until {render_time(release.expires)}"
        life = f" (valid{start}{end})" if start or end else ""
        return f"{release.name}, valid at {judged_at:{TIME}}{life}"
    policy = None if verification.case is None else verification.case.policy
    if not isinstance(policy, Policy):
        return "none: without a policy any code passes"
    if facts is None:
        return _NOTHING_KNOWN
    if facts["trust"] is Trust.DEBUG:
        return "none: nothing measures the code of a debug enclave"
    return "none that the policy has was valid and matched"


def _model(verification: Verification) -> str:
    facts, card = verification.facts, verification.card
    if facts is None:
        return _NOTHING_KNOWN
    named = "" if card is None else f"; the attested card names {card.model_id} ({card.sha256[:16]}...)"
    if verification.is_model_pinned:
        return f"pinned by PCR{MODEL_PCR}{named}"
    register = facts["pcrs"].get(MODEL_PCR)
    if register is None or not any(register):
        return f"not pinned: the document has no PCR{MODEL_PCR}{named}"
    return f"not pinned: the document has PCR{MODEL_PCR} ({register.hex()[:16]}...){named}"


def _receipt(verification: Verification) -> str:
    count, checked = (
        0 if verification.case is None else len(verification.case.receipts),
        verification.receipts,
    )
    if not count:
        return "none"
    if len(checked) < count:
        return f"{count - len(checked)} of {count} were refused or not reached"
    told = [one for one in checked if one.outcome is not None]
    what = "a signed receipt" if count == 1 else f"{count} signed receipts"
    mode = "" if all(one.receipt.security_mode == "production" for one in checked) else "; mode evaluation"
    return f"{what} of {checked[0].receipt.model_id}; {len(told)} with the answer{mode}"


def answers_of(verification: Verification) -> list[Answered]:
    """Return the answers that receipts were kept with, the most probable label first."""
    names = {} if verification.card is None else {one.code: one.name for one in verification.card.labels}
    found = []
    for one in verification.receipts:
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
