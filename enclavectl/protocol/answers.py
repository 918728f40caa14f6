"""The client's reader of answers, and its acknowledgment of an answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from enclave_payload.card import MAX_ANSWER_LABELS, MAX_LABELS, PARTS_PER_BILLION, ModelCard
from enclave_payload.contents import ContentError, Outcome, Timings
from enclave_payload.messages import (
    ANSWER_BYTES,
    ANSWER_PLAINTEXT_BYTES,
    REQUEST_ID_BYTES,
    AnswerKind,
)
from enclave_payload.verdict import Problem, Remark
from enclave_payload.wire import Buffer, FrameType, WireError, encode_frame
from enclavectl.protocol.cbor import Value
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
    "name_outcome",
    "parse_answer",
    "parse_answer_content",
    "parse_outcome",
    "taken_frame",
]

_CONTENT_FIELDS = frozenset({"outcome", "receipt"})
_FIELDS = frozenset({"model", "timings", "probabilities", "top", "rest", "problem", "remarks"})
# The client's own remark is no enclave's.
_REMARKS = frozenset(Remark) - {Remark.UNSURE}


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
    """Read ``Outcome.to_cbor``. Whose labels these are is for ``name_outcome`` to say.

    Raises:
        ContentError: the bytes are not that map, or a value is out of bounds.
    """
    fields = read_fields(content, _FIELDS, max_bytes=ANSWER_PLAINTEXT_BYTES)
    model_id, model_sha256 = _model(fields["model"])
    problem, probabilities, top = fields["problem"], fields["probabilities"], fields["top"]
    if [problem, probabilities, top].count(None) != 2:
        raise ContentError("an outcome has probabilities, the top of them, or a problem")
    return Outcome(
        model_id=model_id,
        model_sha256=model_sha256,
        timings=_timings(fields["timings"]),
        probabilities_ppb=None if probabilities is None else _probabilities(probabilities),
        top_ppb=None if top is None else _top(top),
        rest_ppb=_rest(fields["rest"], has_top=top is not None),
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
    if not isinstance(value, list) or not all(isinstance(one, str) and one in _REMARKS for one in value):
        raise ContentError("remarks")
    remarks = tuple(Remark(str(one)) for one in value)
    if len(set(remarks)) != len(remarks):
        raise ContentError("remarks")
    return remarks


def _probabilities(value: Value) -> dict[str, int]:
    result: dict[str, int] = {}
    for key, parts in _pairs(value, "probabilities"):
        if not isinstance(key, str) or key in result:
            raise ContentError("probabilities")
        result[key] = parts
    return result


def _top(value: Value) -> dict[int, int]:
    result: dict[int, int] = {}
    for key, parts in _pairs(value, "top"):
        if type(key) is not int or not 0 <= key < MAX_LABELS or key in result:
            raise ContentError("top")
        result[key] = parts
    # Falling, and of labels that are as probable the first one first: one form for one answer.
    ranked = sorted(result, key=lambda index: (-result[index], index))
    if list(result) != ranked or len(result) > MAX_ANSWER_LABELS:
        raise ContentError("top")
    return result


def _pairs(value: Value, where: str) -> Iterator[tuple[Value, int]]:
    if not isinstance(value, list) or not value:
        raise ContentError(where)
    for pair in value:
        match pair:
            case [key, int(parts)] if type(parts) is int and 0 <= parts <= PARTS_PER_BILLION:
                yield key, parts
            case _:
                raise ContentError(where)


def _rest(value: Value, *, has_top: bool) -> int:
    most = MAX_LABELS * PARTS_PER_BILLION if has_top else 0
    if type(value) is not int or not 0 <= value <= most:
        raise ContentError("rest")
    return value


def name_outcome(outcome: Outcome, card: ModelCard) -> Outcome:
    """Check that an answer is one of the card's labels, name them, and remark if it is unsure.

    In what is returned ``probabilities_ppb`` has the labels of ``top_ppb`` too, the most probable first.

    Raises:
        ContentError: other labels, or more or fewer of them than the card says.
    """
    if outcome.problem is not None:
        return outcome
    codes = [label.code for label in card.labels]
    top, probabilities = outcome.top_ppb, outcome.probabilities_ppb
    if top is not None:
        if len(top) != min(card.output.top or 0, len(codes)) or max(top) >= len(codes):
            raise ContentError("the labels are not the card's")
        probabilities = {codes[index]: parts for index, parts in top.items()}
    elif probabilities is None or card.output.top is not None or list(probabilities) != codes:
        raise ContentError("the labels are not the card's")
    limit = card.output.unsure_below_ppb
    is_unsure = limit is not None and max(probabilities.values()) < limit
    remarks = (*outcome.remarks, *((Remark.UNSURE,) if is_unsure else ()))
    return replace(outcome, probabilities_ppb=probabilities, remarks=remarks)
