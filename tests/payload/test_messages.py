import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.contents import REQUEST_HEADER_BYTES
from enclave_payload.messages import (
    ANSWER_BYTES,
    MAX_CIPHERTEXT_BYTES,
    MAX_EVIDENCE_BYTES,
    MAX_SEALED_BYTES,
    MIN_SEALED_BYTES,
    SEALED_FIELDS_BYTES,
    Challenge,
    Sealed,
    parse_challenge,
    parse_sealed,
    parse_taken,
    request_id,
    session_id,
    transcript_hash,
)
from enclave_payload.seal import generate_keys
from enclave_payload.wire import HEADER_BYTES, MAX_FRAME_BYTES, WireError
from enclavectl.protocol.answers import taken_frame
from enclavectl.protocol.evidence import challenge_body
from enclavectl.protocol.requests import sealed_frame
from enclavectl.protocol.sealing import SuiteId, seal_request


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


challenges = st.builds(Challenge, exactly(32), st.integers(0, 0xFFFF))
sealeds = st.builds(
    Sealed, st.integers(0, 2**64 - 1), st.integers(0, 0xFFFF), st.binary(min_size=MIN_SEALED_BYTES)
)


def taken_body(this_id: bytes) -> bytes:
    return taken_frame(this_id)[HEADER_BYTES:]


def sealed_body(sealed: Sealed) -> bytes:
    return sealed_frame(sealed)[HEADER_BYTES:]


@given(challenges)
def test_a_challenge_reads_back(challenge: Challenge) -> None:
    assert parse_challenge(challenge_body(challenge)) == challenge


@given(sealeds)
def test_a_sealed_request_reads_back(sealed: Sealed) -> None:
    assert parse_sealed(sealed_body(sealed)) == sealed


@given(exactly(24))
def test_the_id_of_a_taken_answer_reads_back(this_id: bytes) -> None:
    assert parse_taken(taken_body(this_id)) == this_id


BODIES = st.one_of(
    challenges.map(lambda one: (parse_challenge, challenge_body(one))),
    exactly(24).map(lambda one: (parse_taken, taken_body(one))),
)


@given(BODIES, st.data())
def test_a_message_of_one_size_is_refused_when_cut_or_extended(
    message: tuple[Callable[[bytes], object], bytes], data: st.DataObject
) -> None:
    parse, body = message
    with pytest.raises(WireError):
        parse(body[: data.draw(st.integers(0, len(body) - 1))])
    with pytest.raises(WireError):
        parse(body + data.draw(st.binary(min_size=1, max_size=8)))


def test_a_sealed_request_has_what_a_key_and_a_tag_take() -> None:
    """Shorter ones would be so many in one read that answering each keeps others waiting."""
    least = sealed_body(Sealed(7, 1, bytes(MIN_SEALED_BYTES - SEALED_FIELDS_BYTES)))
    assert len(least) == MIN_SEALED_BYTES
    assert parse_sealed(least).counter == 7
    for kept in range(MIN_SEALED_BYTES):
        with pytest.raises(WireError):
            parse_sealed(least[:kept])


def test_the_smallest_picture_is_over_the_least_request() -> None:
    content = [bytes(REQUEST_HEADER_BYTES), b"x"]
    ciphertext = seal_request(SuiteId.X25519, generate_keys().public[SuiteId.X25519], content, b"")
    assert SEALED_FIELDS_BYTES + len(ciphertext) >= MIN_SEALED_BYTES


def test_a_request_id_is_the_session_and_the_counter() -> None:
    assert request_id(b"s" * 16, 258) == b"s" * 16 + b"\0\0\0\0\0\0\1\2"


def test_the_transcript_hashes_both_bodies_behind_their_lengths() -> None:
    expected = hashlib.sha384(b"enclavectl transcript v1" + b"\0\0\0\1a" + b"\0\0\0\2bc").digest()
    assert transcript_hash(b"a", b"bc") == expected
    assert transcript_hash(b"ab", b"c") != expected


def test_the_session_id_hashes_the_transcript_behind_its_domain() -> None:
    assert session_id(b"t") == hashlib.sha384(b"enclavectl session v1t").digest()[:16]


def test_every_message_fits_into_a_frame() -> None:
    assert max(MAX_EVIDENCE_BYTES, MAX_SEALED_BYTES, ANSWER_BYTES) < MAX_FRAME_BYTES
    assert MAX_SEALED_BYTES == 10 + MAX_CIPHERTEXT_BYTES
