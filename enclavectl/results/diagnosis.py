"""The answer of ``diagnose``: from replies to the ``enclavectl.diagnosis/1`` object that everything shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enclavectl.errors import EnclavectlError, EnclaveError, PictureRefused
from enclavectl.protocol.answers import PARTS_PER_BILLION, Outcome, Problem

if TYPE_CHECKING:
    from enclavectl.client.batch import Reply
    from enclavectl.client.exchange import VerifiedEnclave

SCHEMA = "enclavectl.diagnosis/1"

_PROBLEMS: dict[Problem, tuple[str, str]] = {
    Problem.EMPTY: ("it is empty", "send a picture"),
    Problem.UNREADABLE: (
        "it is damaged, cut short, or not of the format that its first bytes announce",
        "open it in a picture viewer and save it again as JPEG or PNG",
    ),
    Problem.TOO_MANY_PIXELS: ("it has more than 50 megapixels", "scale it down"),
    Problem.MORE_THAN_ONE_FRAME: ("it has more than one frame", "save the one frame that you mean"),
    Problem.UNSUPPORTED_PIXELS: (
        "its pixels are not 8-bit gray, RGB, CMYK or a palette, and converting them would guess their range",
        "save it with 8 bits a channel",
    ),
    Problem.MODEL_FAILED: (
        "the model gave no probabilities for it",
        "is the model the one that its card describes?",
    ),
    Problem.TOO_LATE: ("it waited too long for its turn", "send fewer pictures at a time"),
    Problem.OUTBOX_FULL: (
        "too many answers wait to leave the enclave",
        "run enclavectl listen, so that they can",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One picture's line: what the enclave said, or why it said nothing."""

    image: str
    sha256: str | None
    outcome: Outcome | None = None
    error: EnclavectlError | None = None
    total_ms: float = 0.0

    def to_json(self, names: dict[str, str]) -> dict[str, object]:
        """An element of ``results``; ``names`` maps label codes to names."""
        head: dict[str, object] = {"image": self.image, "sha256": self.sha256}
        if self.outcome is None or self.outcome.probabilities_ppb is None:
            error = self.error or EnclaveError("no answer")
            return {**head, "error": {"code": error.code, "message": error.message, "hint": error.hint}}
        shares = {code: ppb / PARTS_PER_BILLION for code, ppb in self.outcome.probabilities_ppb.items()}
        best = max(shares, key=shares.__getitem__)
        timings = self.outcome.timings
        return {
            **head,
            "label": {"code": best, "name": names.get(best, best), "probability": shares[best]},
            "probabilities": shares,
            "timings_ms": {
                "total": round(self.total_ms, 3),
                "queue": timings.queue_us / 1000,
                "decode": timings.decode_us / 1000,
                "inference": timings.inference_us / 1000,
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that one ``diagnose`` found out, in the order in which the pictures were named."""

    backend: str
    enclave: VerifiedEnclave
    results: Sequence[Result] = field(default_factory=tuple)

    @property
    def has_errors(self) -> bool:
        """Whether a picture has an error in place of an answer; the command then ends with 5."""
        return any(result.error is not None for result in self.results)

    def to_json(self) -> dict[str, object]:
        """The ``enclavectl.diagnosis/1`` object."""
        document, card = self.enclave.document, self.enclave.card
        names = self.enclave.label_names
        return {
            "schema": SCHEMA,
            "trust": str(document.trust),
            "backend": self.backend,
            "evidence": {
                "verified": True,
                "module_id": document.module_id,
                "timestamp": document.timestamp.isoformat(timespec="milliseconds"),
                "release": document.release,
                "root": document.root,
                "pcrs": {str(index): value.hex() for index, value in document.pcrs.items()},
                "nonce": None if document.nonce is None else document.nonce.hex(),
            },
            "model": {
                "id": card.model_id,
                "sha256": card.sha256,
                "notice": card.notice,
                "labels": names,
            },
            "results": [result.to_json(names) for result in self.results],
        }


def to_result(name: str, reply: Reply) -> Result:
    """The result for the picture called ``name``; an outcome with a problem becomes a refusal."""
    problem = None if reply.outcome is None else reply.outcome.problem
    return Result(
        image=name,
        sha256=None if reply.picture is None else reply.picture.sha256,
        outcome=None if problem else reply.outcome,
        error=refusal(name, problem) if problem else reply.error,
        total_ms=reply.total_ms,
    )


def refusal(name: str, problem: Problem) -> PictureRefused:
    """What the enclave's word for a problem means to a person."""
    text, hint = _PROBLEMS[problem]
    return PictureRefused(f"{name}: the enclave refused it: {text}", hint=hint, code=str(problem))
