"""The checklist: the recipe and what hangs on it, step by step, with what each step saw, also on failure.

::

    verification = examine(Case(document=..., root=aws_nitro_root(), policy=policy,
                                at=datetime.now(UTC), nonce=my_nonce))
    verification.require()     # raises the error of the first broken step

A caller without a policy or a nonce of its own, or one that judges a document at the document's time, says so
with a ``Waiver``: there is no default that leaves a step out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from hashlib import sha256
from typing import Literal

from enclavectl.attestation import Demands, Facts, Policy, Release, Root, Step
from enclavectl.errors import AttestationError
from enclavectl.evidence.air import Receipt
from enclavectl.evidence.file import EvidenceFile, KeptReceipt
from enclavectl.evidence.statements import RequestStatement
from enclavectl.protocol.answers import Outcome
from enclavectl.protocol.key_config import MODEL_PCR, ModelCard, key_config_digest

NOT_REACHED = "not reached"
# The last step of a case without a policy: it says that there is none.
NO_POLICY_STEP = "policy"


class Waiver(Enum):
    """What a caller does without, in so many words."""

    NO_POLICY = "any enclave will do, whatever code it runs"
    NO_NONCE = "no nonce of the caller's own: the document may be a recording"
    DOCUMENT_TIME = "judged at the document's own time: it proves nothing about now"


class PolicySource(StrEnum):
    """Where the policy of a case comes from."""

    FILE = "file"  # of the caller's
    LOCK = "lock"
    EVIDENCE = "evidence"  # the prover's: whoever made the evidence file chose it


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be judged, and by what.

    ``policy`` is None where there is none: every other step is taken, and the verdict is never ``verified``.
    ``at`` is the time of judgement, with its zone; ``is_now`` if that is the caller's clock. ``nonce`` is the
    caller's own; that of an evidence file proves nothing to anyone but the client that drew it. ``module_id``
    is the one enclave that is meant, where others of the same image would pass as well; None: any.
    ``policy_source`` is where ``policy`` comes from, None if that is not to be shown. ``policy_sha256`` is
    the hash of its file, to say whether the session was held to the same.
    """

    document: bytes
    root: Root
    policy: Policy | Literal[Waiver.NO_POLICY] | None
    at: datetime | Literal[Waiver.DOCUMENT_TIME]
    nonce: bytes | Literal[Waiver.NO_NONCE]
    is_now: bool = True
    evidence: EvidenceFile | None = None
    receipts: tuple[KeptReceipt, ...] = ()
    picture: bytes | None = None
    module_id: str | None = None
    policy_source: PolicySource | None = None
    policy_sha256: str | None = None

    @property
    def demands(self) -> Demands:
        """What the recipe holds the document to."""
        nonce = None if self.evidence is None else self.evidence.nonce
        return Demands(
            root=self.root,
            policy=self.policy if isinstance(self.policy, Policy) else None,
            at=self.at if isinstance(self.at, datetime) else None,
            nonce=self.nonce if isinstance(self.nonce, bytes) else nonce,
            user_data=None if self.evidence is None else key_config_digest(self.evidence.key_config),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the checklist. ``ok`` is None if nothing was demanded, or the step was not reached."""

    id: str
    ok: bool | None
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedReceipt:
    """A receipt that fits its document, with what its statements say where they were kept."""

    receipt: Receipt
    asked: RequestStatement | None
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a judgement: verified if there is no ``error``.

    ``facts`` are None if the document's signature was not reached, or is false: nothing it says is then
    known.
    """

    checks: tuple[Check, ...]
    error: AttestationError | None
    case: Case | None = None
    facts: Facts | None = None
    card: ModelCard | None = None
    receipts: tuple[CheckedReceipt, ...] = ()

    @property
    def verified(self) -> bool:
        """True if every step passed and a policy was met, or the caller waived the policy."""
        return self.error is None

    @property
    def failed(self) -> Check | None:
        """The step at which the judgement stopped; None if every step passed."""
        return next((check for check in self.checks if check.ok is False), None)

    @property
    def is_provers_policy(self) -> bool:
        """True if the policy came with the evidence, so that whoever made the file chose what is enough."""
        return self.case is not None and self.case.policy_source is PolicySource.EVIDENCE

    @property
    def is_fresh(self) -> bool:
        """True if the document answers the caller's own nonce, now, within the policy's age."""
        case = self.case
        return (
            self.verified
            and case is not None
            and isinstance(case.at, datetime)
            and case.is_now
            and isinstance(case.nonce, bytes)
            and isinstance(case.policy, Policy)
        )

    @property
    def judged_at(self) -> datetime | None:
        """The time of judgement: the case's, or that of the document once it is known."""
        if self.case is not None and isinstance(self.case.at, datetime):
            return self.case.at
        return None if self.facts is None else self.facts.timestamp

    @property
    def release(self) -> Release | None:
        """The release of the policy that matched."""
        policy = None if self.case is None else self.case.policy
        if self.facts is None or not isinstance(policy, Policy):
            return None
        return next((one for one in policy.releases if one.name == self.facts.release), None)

    @property
    def receipts_of_picture(self) -> tuple[CheckedReceipt, ...]:
        """The receipts about the case's picture; all of them if no picture is meant.

        In a batch the others are other patients'.
        """
        picture = None if self.case is None else self.case.picture
        if picture is None:
            return self.receipts
        meant = sha256(picture).digest()
        return tuple(
            one for one in self.receipts if one.asked is not None and one.asked.picture_sha256 == meant
        )

    @property
    def is_model_pinned(self) -> bool:
        """True if the policy's release pins the model's register, and the document has that value."""
        return self.release is not None and MODEL_PCR in self.release.pcrs

    def require(self) -> Facts:
        """Return what the document proved.

        Raises:
            AttestationError: the first broken step.
        """
        if self.error is not None:
            raise self.error
        if self.facts is None:
            raise AssertionError("a verification without facts")
        return self.facts


def unreadable(error: AttestationError) -> Verification:
    """Return the verification of a file that cannot be read: not one step of the recipe was reached."""
    later = tuple(Check(id=step.value, ok=None, seen=NOT_REACHED) for step in Step)
    return Verification(checks=(Check(id="file", ok=False, seen=error.message), *later), error=error)
