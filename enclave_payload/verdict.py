"""What passes between the key holder and a decoder: a picture in, and a verdict of fixed size out.

A hostile picture may own the decoder that looks at it, so what the decoder says is read like a stranger's
bytes: one length, known words, numbers within their range. It can lie about the pictures that it is given,
and no more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import StrEnum

from enclave_payload.card import PARTS_PER_BILLION, Scores
from enclave_payload.media import MAX_PICTURE_BYTES, MEDIA_CODES, MediaType
from enclave_payload.scores import adds_up


class Problem(StrEnum):
    """Why a picture got no answer. Typed, because no exception text leaves the enclave."""

    EMPTY = "empty"
    UNREADABLE = "unreadable"
    TOO_MANY_PIXELS = "too-many-pixels"
    MORE_THAN_ONE_FRAME = "more-than-one-frame"
    UNSUPPORTED_PIXELS = "unsupported-pixels"
    UNSUPPORTED_COMPRESSION = "unsupported-compression"
    NOTHING_VISIBLE = "nothing-visible"
    MODEL_FAILED = "model-failed"
    TOO_COSTLY = "too-costly"
    DECODER_FAILED = "decoder-failed"
    TOO_LATE = "too-late"
    OUTBOX_FULL = "outbox-full"


class Remark(StrEnum):
    """What makes an answer about a picture worth less, though it is one.

    ``UNSURE`` is the client's own, by the card's ``unsure_below``: no enclave says it.
    """

    ONE_COLOR = "one-color"
    FEW_PIXELS = "few-pixels"
    UNSURE = "unsure"


_REQUEST = struct.Struct(">BI")
REQUEST_BYTES = _REQUEST.size
_MEDIA_TYPES = {code: media_type for media_type, code in MEDIA_CODES.items()}

# The first byte of a verdict.
_ANSWER = 0
_PROBLEMS = {
    Problem.EMPTY: 1,
    Problem.UNREADABLE: 2,
    Problem.TOO_MANY_PIXELS: 3,
    Problem.MORE_THAN_ONE_FRAME: 4,
    Problem.UNSUPPORTED_PIXELS: 5,
    Problem.NOTHING_VISIBLE: 6,
    Problem.MODEL_FAILED: 7,
    Problem.TOO_COSTLY: 8,
    Problem.UNSUPPORTED_COMPRESSION: 9,
}
_PROBLEM_OF = {code: problem for problem, code in _PROBLEMS.items()}
_REMARKS = (Remark.ONE_COLOR, Remark.FEW_PIXELS)


class VerdictError(Exception):
    """A decoder's bytes break the protocol: it is broken, or somebody else's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word on a picture: parts per billion in label order, or a problem.

    ``inference_us`` is how long the model took, as the decoder has it, in microseconds; 0 with a problem.
    """

    probabilities_ppb: tuple[int, ...] = ()
    remarks: tuple[Remark, ...] = ()
    inference_us: int = field(default=0, compare=False)
    problem: Problem | None = None


def request_header(media_type: MediaType, size: int) -> bytes:
    """Write ``u8 media type | u32 size``; the picture is in the shared memory."""
    return _REQUEST.pack(MEDIA_CODES[media_type], size)


def parse_request_header(data: bytes) -> tuple[MediaType, int]:
    """Read what ``request_header`` wrote.

    Raises:
        VerdictError: it is something else.
    """
    if len(data) != REQUEST_BYTES:
        raise VerdictError("a request's header has another length")
    code, size = _REQUEST.unpack(data)
    if code not in _MEDIA_TYPES or size > MAX_PICTURE_BYTES:
        raise VerdictError("an unknown media type, or too many bytes")
    return _MEDIA_TYPES[code], size


def verdict_bytes(labels: int) -> int:
    """Return the size of every verdict of a decoder whose model has that many labels."""
    return 6 + 4 * labels


def write_verdict(verdict: Verdict, labels: int) -> bytes:
    """Write ``u8 word | u8 remarks | u32 inference_us | u32 parts per billion for each label``.

    With a problem all but the word is zero.
    """
    if verdict.problem is not None:
        return bytes([_PROBLEMS[verdict.problem]]).ljust(verdict_bytes(labels), b"\0")
    remarks = sum(1 << bit for bit, remark in enumerate(_REMARKS) if remark in verdict.remarks)
    return struct.pack(f">BBI{labels}I", _ANSWER, remarks, verdict.inference_us, *verdict.probabilities_ppb)


def parse_verdict(data: bytes, labels: int, scores: Scores) -> Verdict:
    """Read the verdict of a model with these labels and scores, in its one valid form.

    Raises:
        VerdictError: another length, an unknown word, a set bit or number where there is none, or
            probabilities that do not add up.
    """
    if len(data) != verdict_bytes(labels):
        raise VerdictError("a verdict has another length")
    word, remarks, inference_us, *parts = struct.unpack(f">BBI{labels}I", data)
    if word in _PROBLEM_OF and not (remarks or inference_us or any(parts)):
        return Verdict(problem=_PROBLEM_OF[word])
    is_sound = max(parts) <= PARTS_PER_BILLION and adds_up(parts, scores)
    if word != _ANSWER or remarks >> len(_REMARKS) or not is_sound:
        raise VerdictError("a verdict says what no decoder says")
    return Verdict(
        probabilities_ppb=tuple(parts),
        remarks=tuple(remark for bit, remark in enumerate(_REMARKS) if remarks >> bit & 1),
        inference_us=inference_us,
    )
