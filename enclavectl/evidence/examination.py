"""The examination of a case: each step of its checklist, in order, until one fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256

from enclavectl.attestation import (
    ArchivedDocument,
    AttestationCode,
    EmulatorRoot,
    Facts,
    Root,
    aws_nitro_root,
)
from enclavectl.attestation.chain import TIME
from enclavectl.attestation.codes import refused
from enclavectl.attestation.recipe import Step, Taken, take_steps
from enclavectl.errors import AttestationError
from enclavectl.evidence.air import Receipt, parse_receipt
from enclavectl.evidence.codes import ReceiptCode, ReceiptError
from enclavectl.evidence.file import EvidenceCode, EvidenceError, EvidenceFile, KeptReceipt
from enclavectl.evidence.receipt_check import check_outcome, check_picture, check_receipt, check_statements
from enclavectl.evidence.verification import (
    NO_POLICY_STEP,
    NOT_REACHED,
    Case,
    Check,
    CheckedReceipt,
    PolicySource,
    Verification,
)
from enclavectl.protocol.answers import ContentError
from enclavectl.protocol.key_config import (
    MODEL_PCR,
    KeyConfig,
    ModelCard,
    model_register,
    parse_key_config,
)

# A document is made between the challenge and the end of the client's wait (a minute for an enclave that
# boots); two clocks may differ by ten minutes at most (attestation.policy.CLOCK_SKEW_LIMIT).
_SESSION_WINDOW = timedelta(minutes=15)
# No file of a certificate stands for QEMU, which signs nothing.
_EMULATED_HINT = (
    "It is of the backend qemu, where nobody signs. Only a policy of your own with accept: [emulated] takes "
    "that: enclavectl policy new --accept emulated."
)
# Such as attest of an address, which holds a local enclave to AWS's root unless it is told another.
_NAMED_ROOT_HINT = (
    "The client held the session to another root than you do. Its document can be judged alone: enclavectl "
    "receipt extract FILE --to PARTS, then enclavectl verify PARTS/document.bin with the same --root and "
    "--policy."
)
_BATCH_HINT = (
    "Name the receipts as well. A batch's stand beside its evidence file: "
    "enclavectl verify NAME.receipts.jsonl --document NAME.json --picture FILE."
)


def examine(case: Case) -> Verification:
    """Take every step of the case until one fails, and keep what each saw.

    Raises:
        UsageError: ``case.at`` has no time zone.
    """
    examination = _Examination(case)
    planned = _plan(case)
    checks: list[Check] = []
    error: AttestationError | None = None
    try:
        for check in examination.steps():
            checks.append(check)  # noqa: PERF402 - the list must be there when the next step raises
    except AttestationError as refusal:
        error = refusal
        checks.append(Check(id=planned[len(checks)], ok=False, seen=refusal.message))
        checks += [Check(id=name, ok=None, seen=NOT_REACHED) for name in planned[len(checks) :]]
    return Verification(
        checks=tuple(checks),
        error=error,
        case=case,
        facts=examination.facts,
        card=examination.card,
        receipts=tuple(examination.receipts),
    )


def _plan(case: Case) -> list[str]:
    """Return the ids of the case's steps, in their order."""
    plan = [step.value for step in Step]
    if case.evidence is not None:
        plan = ["file", *plan, "session", "model"]
    if case.module_id is not None:
        plan.append("enclave")
    plan += _receipt_ids(case)
    if case.picture is not None:
        plan.append("picture")
    if case.policy is None:
        plan.append(NO_POLICY_STEP)
    return plan


def _receipt_ids(case: Case) -> list[str]:
    count = len(case.receipts)
    return ["receipt"] if count == 1 else [f"receipt-{number}" for number in range(1, count + 1)]


@dataclass(slots=True)
class _Examination:
    """One judgement under way."""

    case: Case
    facts: Facts | None = None
    card: ModelCard | None = None
    receipts: list[CheckedReceipt] = field(default_factory=list)
    _numbers: dict[bytes, int] = field(default_factory=dict)

    def steps(self) -> Iterator[Check]:
        """Yield each step of ``_plan`` after it passed.

        Raises:
            AttestationError: the step after the last one yielded failed.
        """
        evidence = self.case.evidence
        if evidence is not None:
            yield _check_file(evidence, self.case.root)
        for taken in take_steps(self.case.document, self.case.demands):
            self.facts = taken.facts
            yield Check(
                id=taken.step.value, ok=True if taken.was_checked else None, seen=_seen(taken, self.case)
            )
        if self.facts is None:
            raise AssertionError("the recipe ended without facts")
        if evidence is not None:
            yield _check_session(evidence, self.facts, self.case)
            self.card = _read_key_config(evidence).card
            yield _check_model(self.card, self.facts)
        if self.case.module_id is not None:
            yield _check_enclave(self.case.module_id, self.facts)
        for name, kept in zip(_receipt_ids(self.case), self.case.receipts, strict=True):
            checked = _check_receipt(kept, self.case, self.facts, self.card)
            self._check_unrepeated(checked.receipt)
            self.receipts.append(checked)
            yield Check(id=name, ok=True, seen=_receipt_seen(checked, self.case))
        if self.case.picture is not None:
            yield _check_picture(self.case.picture, self.receipts)
        if self.case.policy is None:
            raise EvidenceError(
                EvidenceCode.NO_POLICY,
                "not judged: no policy says which code is the right one, so this may be anybody's enclave",
            )

    def _check_unrepeated(self, receipt: Receipt) -> None:
        """Check that a receipt is there once: its id is its own, so the same id again is the same answer.

        Raises:
            ReceiptError: ``receipt-repeated``.
        """
        number = len(self._numbers) + 1
        if (earlier := self._numbers.setdefault(receipt.cti, number)) != number:
            raise ReceiptError(
                ReceiptCode.RECEIPT_REPEATED,
                f"cti: expected each receipt once, found {receipt.cti.hex()[:16]}... of receipt {earlier} "
                "again",
            )


def _seen(taken: Taken, case: Case) -> str:
    """Return what a step saw; a nonce that came with the document proves nothing to this caller."""
    if taken.step is Step.NONCE and taken.was_checked and not isinstance(case.nonce, bytes):
        return f"{taken.seen} by the file; only the client that drew it knows whether it was fresh"
    return taken.seen


def _check_file(evidence: EvidenceFile, root: Root) -> Check:
    """Check that the file speaks of the root that the document is held to."""
    if evidence.root.sha256 != root.fingerprint:
        raise EvidenceError(
            EvidenceCode.ROOT,
            f"root: expected {root.name} (SHA-256 {root.fingerprint[:16]}...), "
            f"found a session under {evidence.root.name} ({evidence.root.sha256[:16]}...)",
            hint=_root_hint(evidence, root),
        )
    return Check(id="file", ok=True, seen=f"evidence file of {evidence.tool}; its content has its hash")


def _root_hint(evidence: EvidenceFile, root: Root) -> str | None:
    """Return what to do about the other root; None, for the code's own hint, if no root was named."""
    if evidence.root.sha256 == EmulatorRoot().fingerprint:
        return _EMULATED_HINT
    return None if root.fingerprint == aws_nitro_root().fingerprint else _NAMED_ROOT_HINT


def _check_session(evidence: EvidenceFile, facts: Facts, case: Case) -> Check:
    """Check what the file says of its session against what the document says."""
    if evidence.nonce != facts.nonce:
        raise refused(AttestationCode.NONCE, "nonce: the file's is not the document's")
    apart = facts.timestamp - evidence.requested_at
    if abs(apart) > _SESSION_WINDOW:
        raise EvidenceError(
            EvidenceCode.TIME,
            f"requested_at: expected a time within {_SESSION_WINDOW} of the document's "
            f"{facts.timestamp:{TIME}}, found {evidence.requested_at:{TIME}}",
        )
    seen = f"asked at {evidence.requested_at:{TIME}} by the client's clock, with the document's nonce"
    if case.policy_sha256 is not None and case.policy_source is not PolicySource.EVIDENCE:
        seen += f"; by its word {_compared_by_word(evidence, case)}"
    return Check(id="session", ok=True, seen=seen)


def _compared_by_word(evidence: EvidenceFile, case: Case) -> str:
    """Return how the policy or lock of a case compares with that of the session, by the file's word."""
    if case.policy_source is PolicySource.LOCK:
        what, named = "with the image of {} lock", evidence.lock_sha256
    else:
        what, named = "held to {} policy", evidence.policy_sha256
    if named is None:
        return what.format("no")
    return what.format("this") if named == case.policy_sha256 else what.format("another") + " than this one"


def _read_key_config(evidence: EvidenceFile) -> KeyConfig:
    try:
        return parse_key_config(evidence.key_config)
    except ContentError as exc:
        raise EvidenceError(
            EvidenceCode.KEY_CONFIG, f"key configuration: attested, but not of protocol version 1 ({exc})"
        ) from exc


def _check_model(card: ModelCard, facts: Facts) -> Check:
    """Check the attested card against the register that the enclave extended with it, where it has one."""
    shown = f"{card.model_id}, SHA-256 {card.sha256[:16]}..."
    register = facts.pcrs.get(MODEL_PCR)
    if register is None or not any(register):
        seen = f"{shown}, as the attested card says; PCR{MODEL_PCR} measures no model"
        return Check(id="model", ok=None, seen=seen)
    expected = model_register(card.to_json())
    if register != expected:
        raise EvidenceError(
            EvidenceCode.MODEL_REGISTER,
            f"PCR{MODEL_PCR}: expected {expected.hex()[:16]}... of the attested card, "
            f"found {register.hex()[:16]}...",
        )
    return Check(id="model", ok=True, seen=f"{shown}; PCR{MODEL_PCR} measures this card")


def _check_enclave(meant: str, facts: Facts) -> Check:
    if facts.module_id != meant:
        raise EvidenceError(
            EvidenceCode.OTHER_ENCLAVE,
            f"module_id: expected {meant}, found {facts.module_id}: another enclave",
        )
    return Check(id="enclave", ok=True, seen=f"{meant}, the one that was named")


def _check_receipt(kept: KeptReceipt, case: Case, facts: Facts, card: ModelCard | None) -> CheckedReceipt:
    receipt = parse_receipt(kept.receipt)
    key_config = None if case.evidence is None else case.evidence.key_config
    check_receipt(
        receipt,
        # A receipt is held to its document at the document's time, whatever the document's time of judgement.
        document=ArchivedDocument.of(facts),
        document_bytes=case.document,
        key_config=key_config,
    )
    asked, answered = check_statements(receipt, request=kept.request_statement, answer=kept.answer_statement)
    outcome = None if answered is None else check_outcome(receipt, answered, card)
    return CheckedReceipt(receipt=receipt, asked=asked, outcome=outcome)


def _receipt_seen(checked: CheckedReceipt, case: Case) -> str:
    receipt = checked.receipt
    parts = [
        f"number {receipt.sequence_number}",
        f"signed {receipt.issued_at:{TIME}} by the document's key",
        "no question was kept" if checked.asked is None else "its question fits",
        "no answer was kept" if checked.outcome is None else "its answer fits",
    ]
    if case.evidence is None:
        parts.append("without a key configuration the model is its own word")
    return ", ".join(parts)


def _check_picture(picture: bytes, receipts: Sequence[CheckedReceipt]) -> Check:
    """Check that one of the receipts is about this picture.

    Raises:
        ReceiptError: ``picture-mismatch``; ``receipt-missing``, or ``statement-missing``: no receipt has its
            request statement.
    """
    if not receipts:
        raise ReceiptError(
            ReceiptCode.RECEIPT_MISSING,
            "picture: expected a receipt, found none in this file",
            hint=_BATCH_HINT,
        )
    asked = [one.asked for one in receipts if one.asked is not None]
    if not asked:
        raise ReceiptError(
            ReceiptCode.STATEMENT_MISSING,
            "picture: expected a receipt kept with its request statement, found none",
        )
    found = sha256(picture).digest()
    if len(asked) == 1:
        check_picture(asked[0], picture)
    elif all(one.picture_sha256 != found for one in asked):
        # Without their hashes: they are other patients' pictures.
        raise ReceiptError(
            ReceiptCode.PICTURE_MISMATCH,
            f"picture: expected one of the {len(asked)} that the receipts are about, found {found.hex()}",
        )
    is_told = any(
        one.outcome is not None
        for one in receipts
        if one.asked is not None and one.asked.picture_sha256 == found
    )
    told = "its answer is shown" if is_told else "its answer was not kept, so none is shown"
    return Check(
        id="picture", ok=True, seen=f"SHA-256 {found.hex()[:16]}..., as the receipt's question has it; {told}"
    )
