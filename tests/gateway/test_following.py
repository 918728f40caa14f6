from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.messages import ANSWER_BYTES, MAX_EVIDENCE_BYTES, MAX_SEALED_BYTES, MIN_SEALED_BYTES
from enclave_payload.wire import encode_frame, frame_header
from enclavectl.gateway.following import FrameFollower, follow_client, follow_enclave
from enclavectl.net.carriage import FrameType, RefusalCode, WireError, encode_challenge, refusal_frame

CHALLENGE = encode_challenge(bytes(32))
EVIDENCE = encode_frame(FrameType.EVIDENCE, b"e" * 5000)
ANSWER = encode_frame(FrameType.ANSWER, b"a" * ANSWER_BYTES)
BUSY = refusal_frame(RefusalCode.BUSY)


def sealed(size: int) -> bytes:
    return encode_frame(FrameType.SEALED, b"s" * size)


def facts(follower: FrameFollower) -> object:
    return follower.frames, follower.bytes, follower.frame_bytes, follower.refusal_code


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(
    st.lists(st.integers(min_value=MIN_SEALED_BYTES, max_value=3000), max_size=8),
    st.lists(st.integers(min_value=0), max_size=30),
    st.integers(min_value=0, max_value=40),
)
def test_any_split_of_a_legal_stream_counts_the_same(sizes: list[int], cuts: list[int], short: int) -> None:
    stream = CHALLENGE + b"".join(map(sealed, sizes))
    stream = stream[: max(0, len(stream) - short)]
    whole, split, bytewise = follow_client(), follow_client(), follow_client()
    whole.feed(stream, 0.0)
    ended = [kind for piece in pieces(stream, cuts) for kind in split.feed(piece, 0.0)]
    for byte in stream:
        bytewise.feed(bytes([byte]), 0.0)
    assert facts(whole) == facts(split) == facts(bytewise)
    assert len(ended) == sum(whole.frames.values())
    assert whole.bytes == len(stream)


@given(
    st.lists(st.sampled_from([ANSWER, BUSY]), max_size=8),
    st.lists(st.integers(min_value=0), max_size=30),
)
def test_any_split_of_an_enclaves_stream_counts_the_same(frames: list[bytes], cuts: list[int]) -> None:
    stream = EVIDENCE + b"".join(frames)
    split = follow_enclave()
    for piece in pieces(stream, cuts):
        split.feed(piece, 0.0)
    assert split.frames[FrameType.ANSWER] == frames.count(ANSWER)
    assert split.frames[FrameType.REFUSAL] == frames.count(BUSY)
    assert split.refusal_code == (RefusalCode.BUSY if BUSY in frames else None)
    assert not split.is_mid_frame


@pytest.mark.parametrize(
    ("first", "header"),
    [
        (b"", frame_header(FrameType.SEALED, 100)),
        (b"", frame_header(FrameType.CHALLENGE, 33)),
        (b"", frame_header(FrameType.CHALLENGE, 35)),
        (b"", b"\x00\x00\x00\x00\x01"),
        (b"", b"GET /"),
        (CHALLENGE, frame_header(FrameType.CHALLENGE, 34)),
        (CHALLENGE, frame_header(FrameType.TAKEN, 24)),
        (CHALLENGE, frame_header(FrameType.SEALED, 10)),
        (CHALLENGE, frame_header(FrameType.SEALED, MAX_SEALED_BYTES + 1)),
        (CHALLENGE, b"\xff\xff\xff\xff\x03"),
    ],
)
def test_a_clients_frame_is_refused_by_its_header(first: bytes, header: bytes) -> None:
    follower = follow_client()
    follower.feed(first + header[:4], 0.0)
    with pytest.raises(WireError):
        follower.feed(header[4:], 0.0)
    with pytest.raises(WireError):
        follower.feed(b"x", 0.0)


@pytest.mark.parametrize(
    ("first", "header"),
    [
        (b"", frame_header(FrameType.ANSWER, ANSWER_BYTES)),
        (b"", frame_header(FrameType.EVIDENCE, MAX_EVIDENCE_BYTES + 1)),
        (EVIDENCE, frame_header(FrameType.EVIDENCE, 100)),
        (EVIDENCE, frame_header(FrameType.ANSWER, ANSWER_BYTES - 1)),
        (EVIDENCE, frame_header(FrameType.REFUSAL, 27)),
    ],
)
def test_an_enclaves_frame_is_refused_by_its_header(first: bytes, header: bytes) -> None:
    follower = follow_enclave()
    follower.feed(first, 0.0)
    with pytest.raises(WireError):
        follower.feed(header, 0.0)


def test_the_largest_frames_are_followed() -> None:
    follower = follow_client()
    follower.feed(CHALLENGE + frame_header(FrameType.SEALED, MAX_SEALED_BYTES), 0.0)
    assert follower.is_mid_frame


def test_a_frame_began_when_its_first_byte_came() -> None:
    follower = follow_client()
    follower.feed(CHALLENGE[:3], 1.0)
    follower.feed(CHALLENGE[3:10], 2.0)
    assert (follower.began_at, follower.frame_bytes) == (1.0, 10)
    follower.feed(CHALLENGE[10:] + b"\0", 3.0)
    assert (follower.began_at, follower.frame_bytes) == (3.0, 1)


@given(st.integers(min_value=1, max_value=200))
def test_finishing_stops_at_the_end_of_the_frame_under_way(cut: int) -> None:
    follower = follow_client()
    stream = CHALLENGE + sealed(195) + sealed(50)
    follower.feed(stream[: len(CHALLENGE) + cut % 200], 0.0)
    rest = stream[len(CHALLENGE) + cut % 200 :]
    expected = 200 - cut % 200 if cut % 200 else 0
    count, ended = follower.finish(rest, 0.0)
    assert count == expected
    assert list(ended) == ([FrameType.SEALED] if expected else [])
    assert not follower.is_mid_frame
    assert follower.finish(rest[count:], 0.0) == (0, [])


def test_no_byte_of_a_body_is_kept() -> None:
    follower = follow_client()
    follower.feed(CHALLENGE + sealed(4000)[:3000].replace(b"s" * 8, b"PLANTED!"), 0.0)
    kept = b"".join(bytes(value) for value in vars(follower).values() if isinstance(value, bytearray))
    assert kept == b""
