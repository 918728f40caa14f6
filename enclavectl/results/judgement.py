"""A verification for people and programs: the verdict, the lines that are always there, the JSON object."""

from __future__ import annotations

from datetime import datetime

from enclavectl.attestation import Policy
from enclavectl.attestation.chain import TIME
from enclavectl.evidence.file import EvidenceCode
from enclavectl.evidence.verification import Verification, Waiver
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
        return f"{release.name}, valid at {judged_at:{TIME}}"
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
    del verification
    return "none"


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
