"""What passes between the key holder and a decoder: a picture in, and a few bytes of fixed size out.

A hostile picture may own the decoder that looks at it, so what the decoder says is read like a stranger's
bytes: one length, known words, numbers within their range. It can lie about its picture, and no more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

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

# The first byte of a message. A problem is the last word on a picture; so are probabilities.
_ANSWER = 0
_DECODED = 1
_PROBLEMS = {
    Problem.EMPTY: 2,
    Problem.UNREADABLE: 3,
    Problem.TOO_MANY_PIXELS: 4,
    Problem.MORE_THAN_ONE_FRAME: 5,
    Problem.UNSUPPORTED_PIXELS: 6,
    Problem.NOTHING_VISIBLE: 7,
    Problem.MODEL_FAILED: 8,
    Problem.TOO_COSTLY: 9,
    Problem.UNSUPPORTED_COMPRESSION: 10,
}
_PROBLEM_OF = {code: problem for problem, code in _PROBLEMS.items()}
_REMARKS = (Remark.ONE_COLOR, Remark.FEW_PIXELS)


class VerdictError(Exception):
    """A decoder's bytes break the protocol: it is broken, or somebody else's."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The picture has been decoded; the model is about to look at it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The last word on a picture: parts per billion in label order, or a problem."""

    probabilities_ppb: tuple[int, ...] = ()
    remarks: tuple[Remark, ...] = ()
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


def message_bytes(labels: int) -> int:
    """Return the size of every message of a decoder whose model has that many labels."""
    return 2 + 4 * labels


def write_message(message: Decoded | Verdict, labels: int) -> bytes:
    """Write ``u8 word | u8 remarks | u32 parts per billion for each label``; what says nothing is zero."""
    parts = (0,) * labels
    if isinstance(message, Decoded):
        word, remarks = _DECODED, 0
    elif message.problem is not None:
        word, remarks = _PROBLEMS[message.problem], 0
    else:
        word, parts = _ANSWER, message.probabilities_ppb
        remarks = sum(1 << bit for bit, remark in enumerate(_REMARKS) if remark in message.remarks)
    return struct.pack(f">BB{labels}I", word, remarks, *parts)


def parse_message(data: bytes, labels: int, scores: Scores) -> Decoded | Verdict:
    """Read a message of a model with these labels and scores, in its one valid form.

    Raises:
        VerdictError: another length, an unknown word, a set bit or number where there is none, or
            probabilities that do not add up.
    """
    if len(data) != message_bytes(labels):
        raise VerdictError("a message has another length")
    word, remarks, *parts = struct.unpack(f">BB{labels}I", data)
    if word == _ANSWER:
        return _answer(remarks, parts, scores)
    if remarks or any(parts):
        _refuse()
    if word == _DECODED:
        return Decoded()
    if word not in _PROBLEM_OF:
        _refuse()
    return Verdict(problem=_PROBLEM_OF[word])


def _answer(remarks: int, parts: list[int], scores: Scores) -> Verdict:
    if remarks >> len(_REMARKS) or max(parts) > PARTS_PER_BILLION:
        _refuse()
    if not adds_up(parts, scores):
        _refuse()
    return Verdict(
        probabilities_ppb=tuple(parts),
        remarks=tuple(remark for bit, remark in enumerate(_REMARKS) if remarks >> bit & 1),
    )


def _refuse() -> NoReturn:
    raise VerdictError("a message says what no decoder says")
