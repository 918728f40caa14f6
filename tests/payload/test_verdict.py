"""The few bytes between key holder and decoder: one valid form each, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import PARTS_PER_BILLION, Scores
from enclave_payload.media import MAX_PICTURE_BYTES, MediaType
from enclave_payload.verdict import (
    Problem,
    Remark,
    Verdict,
    VerdictError,
    parse_request_header,
    parse_verdict,
    request_header,
    verdict_bytes,
    write_verdict,
)

# The worker says these itself; a decoder must not.
WORKER_SAYS = {Problem.TOO_LATE, Problem.OUTBOX_FULL, Problem.DECODER_FAILED}
DECODER_SAYS = sorted(set(Problem) - WORKER_SAYS)
ANSWER = Verdict(probabilities_ppb=(999_999_999, 0, 1), remarks=(Remark.FEW_PIXELS,), inference_us=2**32 - 1)


@pytest.mark.parametrize("media_type", MediaType)
@pytest.mark.parametrize("size", [0, 1, MAX_PICTURE_BYTES])
def test_a_header_is_read_as_it_was_written(media_type: MediaType, size: int) -> None:
    assert parse_request_header(request_header(media_type, size)) == (media_type, size)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        request_header(MediaType.PNG, 1)[:-1],
        request_header(MediaType.PNG, 1) + b"\0",
        b"\0" + bytes(4),
        b"\6" + bytes(4),
        request_header(MediaType.PNG, MAX_PICTURE_BYTES + 1),
    ],
)
def test_another_header_is_refused(header: bytes) -> None:
    with pytest.raises(VerdictError):
        parse_request_header(header)


@pytest.mark.parametrize("verdict", [ANSWER, *(Verdict(problem=problem) for problem in DECODER_SAYS)])
def test_a_verdict_is_read_as_it_was_written(verdict: Verdict) -> None:
    data = write_verdict(verdict, 3)
    assert len(data) == verdict_bytes(3) == 18
    read = parse_verdict(data, 3, Scores.SOFTMAX)
    assert (read, read.inference_us) == (verdict, verdict.inference_us)


@pytest.mark.parametrize("problem", sorted(WORKER_SAYS))
def test_what_only_a_worker_says_has_no_bytes(problem: Problem) -> None:
    with pytest.raises(KeyError):
        write_verdict(Verdict(problem=problem), 3)


GOOD = write_verdict(ANSWER, 3)
HALF = PARTS_PER_BILLION // 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:-1],
        GOOD + b"\0",
        b"\xff" + bytes(17),
        b"\1\1" + bytes(16),  # remarks on what is no answer
        b"\1" + bytes(4) + b"\1" + bytes(12),  # a time of no inference
        b"\3" + bytes(16) + b"\1",  # a number beside a problem
        b"\0\4" + GOOD[2:],  # an unknown remark
        write_verdict(Verdict(probabilities_ppb=(0, 0, 0)), 3),
        write_verdict(Verdict(probabilities_ppb=(HALF, HALF, HALF)), 3),
        write_verdict(Verdict(probabilities_ppb=(PARTS_PER_BILLION + 1, 0, 0)), 3),
        write_verdict(Verdict(probabilities_ppb=(2**32 - 1, 0, 0)), 3),
    ],
)
def test_another_verdict_is_refused(data: bytes) -> None:
    with pytest.raises(VerdictError):
        parse_verdict(data, 3, Scores.SOFTMAX)


@given(st.one_of(st.binary(max_size=20), st.binary(min_size=18, max_size=18)))
def test_any_bytes_are_a_verdict_in_its_one_form_or_refused(data: bytes) -> None:
    try:
        verdict = parse_verdict(data, 3, Scores.SOFTMAX)
    except VerdictError:
        return
    assert write_verdict(verdict, 3) == data
