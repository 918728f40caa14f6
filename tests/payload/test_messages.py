import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.messages import (
    ANSWER_BYTES,
    ANSWER_CIPHERTEXT_BYTES,
    MAX_CIPHERTEXT_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_EVIDENCE_BYTES,
    MAX_KEY_CONFIG_BYTES,
    MAX_SEALED_BYTES,
    NO_REQUEST,
    Answer,
    AnswerKind,
    Challenge,
    Evidence,
    Refusal,
    RefusalCode,
    Sealed,
    Taken,
    parse_answer,
    parse_challenge,
    parse_evidence,
    parse_refusal,
    parse_sealed,
    parse_taken,
    request_counter,
    request_id,
    transcript_hash,
)
from enclave_payload.wire import HEADER_BYTES, MAX_FRAME_BYTES, WireError

Message = Challenge | Evidence | Sealed | Answer | Refusal | Taken


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


challenges = st.builds(Challenge, exactly(32), st.integers(0, 0xFFFF))
evidences = st.builds(
    Evidence, exactly(16), st.binary(min_size=1, max_size=99), st.binary(min_size=1, max_size=99)
)
sealeds = st.builds(Sealed, st.integers(0, 2**64 - 1), st.integers(0, 0xFFFF), st.binary(min_size=1))
answers = st.builds(
    Answer,
    exactly(24),
    st.sampled_from(AnswerKind),
    st.just(bytes(range(16)) * (ANSWER_CIPHERTEXT_BYTES // 16)),
)
refusals = st.builds(Refusal, st.sampled_from(RefusalCode), exactly(24))
takens = st.builds(Taken, exactly(24))

PARSERS: dict[type[Message], Callable[[bytes], Message]] = {
    Challenge: parse_challenge,
    Evidence: parse_evidence,
    Sealed: parse_sealed,
    Answer: parse_answer,
    Refusal: parse_refusal,
    Taken: parse_taken,
}


def body_of(message: Message) -> bytes:
    return message.to_frame()[HEADER_BYTES:]


@given(st.one_of(challenges, evidences, sealeds, answers, refusals, takens))
def test_a_message_reads_back_as_it_was_written(message: Message) -> None:
    assert PARSERS[type(message)](body_of(message)) == message


@given(st.one_of(challenges, answers, refusals, takens), st.data())
def test_a_message_of_one_size_is_refused_when_cut_or_extended(message: Message, data: st.DataObject) -> None:
    body = body_of(message)
    parse = PARSERS[type(message)]
    with pytest.raises(WireError):
        parse(body[: data.draw(st.integers(0, len(body) - 1))])
    with pytest.raises(WireError):
        parse(body + data.draw(st.binary(min_size=1, max_size=8)))


@pytest.mark.parametrize("kept", range(12))
def test_a_sealed_request_needs_one_byte_of_ciphertext(kept: int) -> None:
    body = body_of(Sealed(7, 1, b"c"))[:kept]
    if kept == 11:
        assert parse_sealed(body) == Sealed(7, 1, b"c")
    else:
        with pytest.raises(WireError):
            parse_sealed(body)


def test_evidence_is_refused_at_every_cut_that_leaves_no_key_configuration() -> None:
    body = body_of(Evidence(bytes(16), b"document", b"k"))
    for kept in range(len(body)):
        with pytest.raises(WireError):
            parse_evidence(body[:kept])
    assert parse_evidence(body).key_config == b"k"


@pytest.mark.parametrize(
    ("document", "key_config"),
    [(0, 1), (1, 0), (MAX_DOCUMENT_BYTES + 1, 1), (1, MAX_KEY_CONFIG_BYTES + 1)],
)
def test_evidence_is_refused_when_a_part_is_missing_or_too_long(document: int, key_config: int) -> None:
    with pytest.raises(WireError):
        parse_evidence(Evidence(bytes(16), bytes(document), bytes(key_config)).to_body())


def test_the_longest_evidence_passes() -> None:
    body = Evidence(bytes(16), bytes(MAX_DOCUMENT_BYTES), bytes(MAX_KEY_CONFIG_BYTES)).to_body()
    assert len(body) == MAX_EVIDENCE_BYTES
    assert len(parse_evidence(body).document) == MAX_DOCUMENT_BYTES


def test_a_length_that_points_past_the_end_is_refused() -> None:
    with pytest.raises(WireError):
        parse_evidence(bytes(16) + b"\xff\xff" + bytes(100))


@pytest.mark.parametrize("kind", [2, 3, 255])
def test_an_answer_of_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(WireError):
        parse_answer(bytes(24) + bytes([kind]) + bytes(ANSWER_CIPHERTEXT_BYTES))


@pytest.mark.parametrize("code", [0, 9, 255, 256, 0xFFFF])
def test_a_refusal_with_an_unknown_code_is_refused(code: int) -> None:
    with pytest.raises(WireError):
        parse_refusal(code.to_bytes(2, "big") + NO_REQUEST)


@given(st.sampled_from(list(PARSERS.values())), st.binary(max_size=200))
def test_any_bytes_are_the_one_valid_form_or_a_wire_error(
    parse: Callable[[bytes], Message], data: bytes
) -> None:
    try:
        message = parse(data)
    except WireError:
        return
    assert body_of(message) == data


@given(exactly(16), st.integers(0, 2**64 - 1))
def test_a_request_id_is_the_session_and_the_counter(session_id: bytes, counter: int) -> None:
    this_id = request_id(session_id, counter)
    assert this_id[:16] == session_id
    assert request_counter(this_id) == counter


def test_the_transcript_hashes_both_bodies_behind_their_lengths() -> None:
    expected = hashlib.sha384(b"enclavectl transcript v1" + b"\0\0\0\1a" + b"\0\0\0\2bc").digest()
    assert transcript_hash(b"a", b"bc") == expected
    assert transcript_hash(b"ab", b"c") != expected


def test_every_message_fits_into_a_frame() -> None:
    assert max(MAX_EVIDENCE_BYTES, MAX_SEALED_BYTES, ANSWER_BYTES) < MAX_FRAME_BYTES
    assert MAX_SEALED_BYTES == 10 + MAX_CIPHERTEXT_BYTES
