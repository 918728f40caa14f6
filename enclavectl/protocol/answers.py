"""The client's reader of answers, and its acknowledgment of an answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from enclave_payload.cbor import Value
from enclave_payload.contents import PARTS_PER_BILLION, ContentError, Outcome, Problem, Remark, Timings
from enclave_payload.messages import (
    ANSWER_BYTES,
    ANSWER_PLAINTEXT_BYTES,
    REQUEST_ID_BYTES,
    AnswerKind,
)
from enclave_payload.wire import Buffer, FrameType, WireError, encode_frame
from enclavectl.protocol.fields import read_fields

__all__ = [
    "ANSWER_BYTES",
    "PARTS_PER_BILLION",
    "Answer",
    "AnswerContent",
    "AnswerKind",
    "ContentError",
    "Outcome",
    "Problem",
    "Remark",
    "Timings",
    "parse_answer",
    "parse_answer_content",
    "parse_outcome",
    "taken_frame",
]

_CONTENT_FIELDS = frozenset({"outcome", "receipt"})
_FIELDS = frozenset({"model", "timings", "probabilities", "problem", "remarks"})


@dataclass(frozen=True, slots=True)
class Answer:
    """One sealed answer of constant size."""

    request_id: bytes
    kind: AnswerKind
    ciphertext: bytes


def parse_answer(body: Buffer) -> Answer:
    """Read ``24 bytes request id | u8 kind | 4112 bytes ciphertext``; the answer is still sealed.

    Raises:
        WireError: another length or kind.
    """
    if len(body) != ANSWER_BYTES or body[REQUEST_ID_BYTES] not in set(AnswerKind):
        raise WireError(f"an answer has {ANSWER_BYTES} bytes and kind 0 or 1")
    kind = AnswerKind(body[REQUEST_ID_BYTES])
    return Answer(bytes(body[:REQUEST_ID_BYTES]), kind, bytes(body[REQUEST_ID_BYTES + 1 :]))


def taken_frame(request_id: bytes) -> bytes:
    """Write ``24 bytes request id``: the client has opened this answer, so the enclave may forget it."""
    return encode_frame(FrameType.TAKEN, request_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerContent:
    """What was sealed as a final answer: an outcome as it was hashed, and a signed receipt or None."""

    outcome: bytes = field(repr=False)
    receipt: bytes | None


def parse_answer_content(content: bytes) -> AnswerContent:
    """Read ``enclave_payload.contents.encode_answer``; neither part is read or checked yet.

    Raises:
        ContentError: the bytes are not that map.
    """
    fields = read_fields(content, _CONTENT_FIELDS, max_bytes=ANSWER_PLAINTEXT_BYTES)
    outcome, receipt = fields["outcome"], fields["receipt"]
    if not isinstance(outcome, bytes) or not (receipt is None or isinstance(receipt, bytes)):
        raise ContentError("an answer has an outcome and a receipt or null")
    return AnswerContent(outcome=outcome, receipt=receipt)


def parse_outcome(content: bytes) -> Outcome:
    """Read ``Outcome.to_cbor``.

    Raises:
        ContentError: the bytes are not that map, or a value is out of bounds.
    """
    fields = read_fields(content, _FIELDS, max_bytes=ANSWER_PLAINTEXT_BYTES)
    model_id, model_sha256 = _model(fields["model"])
    problem, probabilities = fields["problem"], fields["probabilities"]
    if (problem is None) is (probabilities is None):
        raise ContentError("an outcome has probabilities or a problem")
    return Outcome(
        model_id=model_id,
        model_sha256=model_sha256,
        timings=_timings(fields["timings"]),
        probabilities_ppb=None if probabilities is None else _probabilities(probabilities),
        problem=None if problem is None else _problem(problem),
        remarks=_remarks(fields["remarks"]),
    )


def _model(value: Value) -> tuple[str, str]:
    match value:
        case [str(model_id), str(model_sha256)]:
            return model_id, model_sha256
    raise ContentError("model")


def _timings(value: Value) -> Timings:
    match value:
        case [int(queue), int(decoded), int(inference)]:
            times = (queue, decoded, inference)
            # `type() is int`, because True is an int in Python and is not one in CBOR.
            if all(type(time_us) is int and time_us >= 0 for time_us in times):
                return Timings(queue_us=queue, decode_us=decoded, inference_us=inference)
    raise ContentError("timings")


def _problem(value: Value) -> Problem:
    if not isinstance(value, str) or value not in set(Problem):
        raise ContentError("problem")
    return Problem(value)


def _remarks(value: Value) -> tuple[Remark, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one in set(Remark) for one in value):
        raise ContentError("remarks")
    remarks = tuple(Remark(str(one)) for one in value)
    if len(set(remarks)) != len(remarks):
        raise ContentError("remarks")
    return remarks


def _probabilities(value: Value) -> dict[str, int]:
    if not isinstance(value, list) or not value:
        raise ContentError("probabilities")
    result: dict[str, int] = {}
    for pair in value:
        match pair:
            case [str(code), int(parts)] if code not in result and type(parts) is int:
                result[code] = parts
            case _:
                raise ContentError("probabilities")
    if not all(0 <= parts <= PARTS_PER_BILLION for parts in result.values()):
        raise ContentError("probabilities")
    return result
