"""The answer of ``diagnose``: from replies to the ``enclavectl.diagnosis/1`` object that all outputs show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enclavectl.errors import EnclavectlError, EnclaveError, PictureRefused
from enclavectl.protocol.answers import PARTS_PER_BILLION, Outcome, Problem, Remark

if TYPE_CHECKING:
    from enclavectl.attestation import VerifiedDocument
    from enclavectl.client.batch import Reply
    from enclavectl.client.exchange import VerifiedEnclave
    from enclavectl.client.folders import LeftOut

SCHEMA = "enclavectl.diagnosis/1"

_PROBLEMS: dict[Problem, tuple[str, str]] = {
    Problem.EMPTY: ("it is empty", "send a picture"),
    Problem.UNREADABLE: (
        "it is damaged, cut short, or not of the format that its first bytes announce",
        "open it in a picture viewer and save it again as JPEG or PNG",
    ),
    Problem.TOO_MANY_PIXELS: (
        "it has more than 50 megapixels, or more than 65,535 pixels on a side",
        "scale it down",
    ),
    Problem.MORE_THAN_ONE_FRAME: (
        "it has more than one frame, or is a thumbnail beside the picture, as in a camera's raw file",
        "save the one frame that you mean; a raw file's picture as JPEG or PNG",
    ),
    Problem.UNSUPPORTED_PIXELS: (
        "its pixels are not 8-bit gray, RGB, CMYK or a palette, and converting them would guess their range",
        "save it with 8 bits a channel",
    ),
    Problem.UNSUPPORTED_COMPRESSION: (
        "it is a TIFF with a compression that the enclave does not read",
        "save it as PNG, or as TIFF with LZW, ZIP (Deflate) or no compression",
    ),
    Problem.NOTHING_VISIBLE: (
        "nothing of it is visible: it is transparent throughout",
        "save it without transparency, as JPEG or as PNG without an alpha channel",
    ),
    Problem.MODEL_FAILED: (
        "the model gave no probabilities for it",
        "is the model the one that its card describes?",
    ),
    Problem.TOO_COSTLY: (
        "it takes more processor time or memory than one picture may",
        "save it again as a plain JPEG or PNG, or scale it down",
    ),
    Problem.DECODER_FAILED: (
        "the process that decoded it crashed or was killed; no other picture was harmed",
        "send it again; if that fails too, save it again as JPEG or PNG, or give the enclave more memory",
    ),
    Problem.TOO_LATE: ("it waited too long for its turn", "send fewer pictures at a time"),
    Problem.OUTBOX_FULL: (
        "too many answers wait to leave the enclave",
        "run enclavectl listen, so that they can",
    ),
}

_REMARKS: dict[Remark, str] = {
    Remark.ONE_COLOR: "the picture is (nearly) of one color; the answer says nothing about a subject",
    Remark.FEW_PIXELS: "the picture has far fewer pixels than the model looks at; it was enlarged",
    Remark.UNSURE: "the model is unsure of this picture: no label reaches the threshold in its card",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one picture: the enclave's answer, or the error in its place.

    ``is_receipted`` says that the enclave signed the answer, and that the signature was checked.
    """

    image: str
    sha256: str | None
    outcome: Outcome | None = None
    is_receipted: bool = False
    error: EnclavectlError | None = None
    total_ms: float = 0.0
    session: int = 0

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """The code and the text of each remark by which the enclave qualifies its answer."""
        remarks = () if self.outcome is None else self.outcome.remarks
        return [(str(remark), _REMARKS[remark]) for remark in remarks]

    def to_json(self, names: dict[str, str], *, top: int | None = None) -> dict[str, object]:
        """Return an element of ``results``; ``names`` maps label codes to names.

        ``top`` is how many probabilities it has, of the most probable labels; None for all of them.
        """
        head: dict[str, object] = {"image": self.image, "sha256": self.sha256, "session": self.session}
        if self.outcome is None or self.outcome.probabilities_ppb is None:
            error = self.error or EnclaveError("no answer")
            return {**head, "error": {"code": error.code, "message": error.message, "hint": error.hint}}
        shares = {code: ppb / PARTS_PER_BILLION for code, ppb in self.outcome.probabilities_ppb.items()}
        ranked = sorted(shares, key=shares.__getitem__, reverse=True)
        best, shown = ranked[0], set(ranked[:top])
        timings = self.outcome.timings
        return {
            **head,
            "label": {"code": best, "name": names.get(best, best), "probability": shares[best]},
            "probabilities": {code: share for code, share in shares.items() if code in shown},
            "rest": None if self.outcome.top_ppb is None else self.outcome.rest_ppb / PARTS_PER_BILLION,
            "receipted": self.is_receipted,
            "warnings": [{"code": code, "message": message} for code, message in self.warnings],
            "timings_ms": {
                "total": round(self.total_ms, 3),
                "queue": timings.queue_us / 1000,
                "decode": timings.decode_us / 1000,
                "inference": timings.inference_us / 1000,
            },
        }


@dataclass(slots=True, kw_only=True)
class Totals:
    """Counts of a command's pictures. The results themselves are not kept: a folder may have millions.

    ``found`` of them were in a results file before the command, and count among the others as well.
    """

    pictures: int
    answered: int = 0
    refused: int = 0
    found: int = 0

    def count(self, result: Result) -> None:
        """Count one result."""
        if result.error is None:
            self.answered += 1
        else:
            self.refused += 1

    @property
    def results(self) -> int:
        """How many pictures have a result; a refusal counts."""
        return self.answered + self.refused

    @property
    def is_complete(self) -> bool:
        """True if every picture has a result."""
        return self.results == self.pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What one ``diagnose`` says beside its results.

    ``later_enclaves`` are those of further sessions, after the first enclave was lost; ``session`` of a
    result tells which enclave answered. ``enclave`` is None if every picture was refused before one was
    asked. ``results_file`` has the results of this command and of those that it goes on from.
    """

    backend: str
    totals: Totals
    enclave: VerifiedEnclave | None
    later_enclaves: Sequence[VerifiedEnclave] = ()
    left_out: Sequence[LeftOut] = field(default_factory=tuple)
    results_file: str | None = None

    def tail_json(self) -> dict[str, object]:
        """Return the part of the object that is known after the last result."""
        totals = self.totals
        kept: dict[str, object] = {}
        if self.results_file is not None:
            kept = {"results_file": self.results_file, "earlier": totals.found}
        return {
            "left_out": [folder.to_json() for folder in self.left_out],
            "later_evidence": self.later_evidence,
            **kept,
            "pictures": totals.pictures,
            "answered": totals.answered,
            "complete": totals.is_complete,
        }

    @property
    def later_evidence(self) -> list[dict[str, object]]:
        """The evidence of ``later_enclaves``, in their order."""
        return [_evidence(enclave.document) for enclave in self.later_enclaves]

    def head_json(self) -> dict[str, object]:
        """Return the part of the object that is known before any result: the enclave and its evidence."""
        if self.enclave is None:
            nothing = {"trust": None, "backend": self.backend, "evidence": None}
            return {"schema": SCHEMA, **nothing, "model": None}
        document, card = self.enclave.document, self.enclave.card
        return {
            "schema": SCHEMA,
            "trust": str(document.trust),
            "backend": self.backend,
            "evidence": _evidence(document),
            "model": {
                "id": card.model_id,
                "sha256": card.sha256,
                "notice": card.notice,
                "labels": self.enclave.label_names,
            },
        }


def _evidence(document: VerifiedDocument) -> dict[str, object]:
    expires = document.release_expires
    return {
        "verified": True,
        "module_id": document.module_id,
        "timestamp": document.timestamp.isoformat(timespec="milliseconds"),
        "release": document.release,
        "release_expires": None if expires is None else expires.isoformat(),
        "model_pinned": document.model_pinned,
        "root": document.root,
        "pcrs": {str(index): value.hex() for index, value in document.pcrs.items()},
        "nonce": None if document.nonce is None else document.nonce.hex(),
    }


def to_result(name: str, reply: Reply) -> Result:
    """Make the result for the picture ``name``; an outcome with a problem becomes a refusal."""
    problem = None if reply.outcome is None else reply.outcome.problem
    return Result(
        image=name,
        sha256=None if reply.picture is None else reply.picture.sha256,
        outcome=None if problem else reply.outcome,
        is_receipted=reply.receipted is not None,
        error=refusal(name, problem) if problem else reply.error,
        total_ms=reply.total_ms,
        session=reply.session,
    )


def refusal(name: str, problem: Problem) -> PictureRefused:
    """Explain the enclave's problem code to a person."""
    text, hint = _PROBLEMS[problem]
    return PictureRefused(f"{name}: the enclave refused it: {text}", hint=hint, code=str(problem))
