import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.contents import Request
from enclave_payload.media import MediaType
from enclave_payload.messages import (
    MIN_SEALED_BYTES,
    SEALED_FIELDS_BYTES,
    AnswerKind,
    Challenge,
    RefusalCode,
    Sealed,
    answer_frame,
    evidence_body,
    refusal_frame,
    request_id,
    session_id,
    transcript_hash,
)
from enclave_payload.seal import SuiteId, generate_keys, request_info
from enclave_payload.session import (
    ChallengeReceived,
    EnclaveSession,
    Event,
    SealedReceived,
    SessionError,
    open_request,
)
from enclave_payload.wire import HEADER_BYTES, FrameType, encode_frame
from enclavectl.protocol.evidence import challenge_body, challenge_frame
from enclavectl.protocol.requests import request_content, sealed_frame
from enclavectl.protocol.sealing import seal_request

KEYS = generate_keys()
CHALLENGE = Challenge(bytes(range(32)))
CHALLENGE_FRAME = challenge_frame(CHALLENGE)
DOCUMENT, KEY_CONFIG = b"document", b"key configuration"
EVIDENCE_BODY = evidence_body(DOCUMENT, KEY_CONFIG)
TRANSCRIPT = transcript_hash(challenge_body(CHALLENGE), EVIDENCE_BODY)
SESSION_ID = session_id(TRANSCRIPT)
REQUEST = Request(picture=b"picture", media_type=MediaType.PNG, reply_key=bytes(32), salt=bytes(32))
# As long as the shortest that is looked at.
CIPHERTEXT = bytes(MIN_SEALED_BYTES - SEALED_FIELDS_BYTES)


def open_session(*, accepts_requests: bool = True) -> EnclaveSession:
    session = EnclaveSession(accepts_requests=accepts_requests)
    assert session.receive(CHALLENGE_FRAME) == [ChallengeReceived(CHALLENGE.nonce)]
    session.evidence(DOCUMENT, KEY_CONFIG)
    return session


def sealed(counter: int, *, suite: SuiteId = SuiteId.X25519, transcript: bytes = TRANSCRIPT) -> Sealed:
    info = request_info(suite, request_id(SESSION_ID, counter), transcript)
    return Sealed(counter, suite, seal_request(suite, KEYS.public[suite], request_content(REQUEST), info))


def assert_dies(session: EnclaveSession, data: bytes, code: RefusalCode) -> SessionError:
    """``data`` ends the session with ``code``, and it stays ended whatever comes."""
    with pytest.raises(SessionError) as first:
        session.receive(data)
    assert first.value.code is code
    for later in (b"", CHALLENGE_FRAME, sealed_frame(Sealed(99, 1, CIPHERTEXT))):
        with pytest.raises(SessionError) as again:
            session.receive(later)
        assert again.value is first.value
    with pytest.raises(RuntimeError, match="without a challenge"):
        session.evidence(b"d", b"k")
    return first.value


def byte_by_byte(session: EnclaveSession, data: bytes) -> list[Event]:
    return [event for byte in data for event in session.receive(bytes([byte]))]


def test_the_evidence_carries_both_parts() -> None:
    session = EnclaveSession()
    session.receive(CHALLENGE_FRAME)
    frame = session.evidence(DOCUMENT, KEY_CONFIG)
    assert frame[HEADER_BYTES:] == EVIDENCE_BODY


@pytest.mark.parametrize("suite", list(SuiteId))
def test_a_sealed_request_comes_out_and_opens(suite: SuiteId) -> None:
    session = open_session()
    request = sealed(0, suite=suite)
    [event] = session.receive(sealed_frame(request))
    assert isinstance(event, SealedReceived)
    assert event.request_id == request_id(SESSION_ID, 0)
    assert open_request(KEYS, event) == REQUEST


def test_many_requests_come_out_in_order_whole_and_byte_by_byte() -> None:
    stream = b"".join(
        sealed_frame(Sealed(counter, 1, CIPHERTEXT * counter)) for counter in (1, 2, 7, 2**64 - 1)[:3]
    )
    stream += sealed_frame(Sealed(2**64 - 1, 1, CIPHERTEXT))
    whole, slow = open_session(), open_session()
    events = whole.receive(stream)
    assert events == byte_by_byte(slow, stream)
    ids = [event.request_id for event in events if isinstance(event, SealedReceived)]
    assert ids == [request_id(SESSION_ID, counter) for counter in (1, 2, 7, 2**64 - 1)]
    assert not whole.is_mid_frame


def test_a_challenge_byte_by_byte_is_one_event() -> None:
    session = EnclaveSession()
    assert byte_by_byte(session, CHALLENGE_FRAME) == [ChallengeReceived(CHALLENGE.nonce)]


def test_half_a_frame_is_no_event_but_shows() -> None:
    session = open_session()
    frame = sealed_frame(sealed(0))
    assert session.receive(frame[:-1]) == []
    assert session.is_mid_frame
    assert len(session.receive(frame[-1:])) == 1
    assert not session.is_mid_frame


@pytest.mark.parametrize("last", [0, 1, 5])
@pytest.mark.parametrize("step", [0, -1, -5])
def test_a_counter_that_does_not_grow_is_a_replay(last: int, step: int) -> None:
    session = open_session()
    session.receive(sealed_frame(Sealed(last, 1, CIPHERTEXT)))
    repeated = max(last + step, 0)
    error = assert_dies(session, sealed_frame(Sealed(repeated, 1, CIPHERTEXT)), RefusalCode.REPLAYED)
    assert error.request_id == request_id(SESSION_ID, repeated)


def test_a_request_before_the_challenge_ends_the_session() -> None:
    assert_dies(EnclaveSession(), sealed_frame(sealed(0)), RefusalCode.PROTOCOL)


def test_a_request_behind_the_challenge_does_not_wait_for_the_evidence() -> None:
    assert_dies(EnclaveSession(), CHALLENGE_FRAME + sealed_frame(sealed(0)), RefusalCode.PROTOCOL)


def test_a_request_while_attesting_ends_the_session() -> None:
    session = EnclaveSession()
    session.receive(CHALLENGE_FRAME)
    assert_dies(session, sealed_frame(sealed(0)), RefusalCode.PROTOCOL)


def test_a_second_challenge_ends_the_session() -> None:
    assert_dies(EnclaveSession(), CHALLENGE_FRAME * 2, RefusalCode.PROTOCOL)
    assert_dies(open_session(), CHALLENGE_FRAME, RefusalCode.PROTOCOL)


@pytest.mark.parametrize("version", [0, 2, 0xFFFF])
def test_another_version_is_refused_as_such(version: int) -> None:
    assert_dies(EnclaveSession(), challenge_frame(Challenge(bytes(32), version)), RefusalCode.VERSION)


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(FrameType.EVIDENCE, EVIDENCE_BODY),
        answer_frame(bytes(24), AnswerKind.FINAL, bytes(4112)),
        refusal_frame(RefusalCode.BUSY),
    ],
    ids=["evidence", "answer", "refusal"],
)
def test_what_only_an_enclave_sends_is_not_taken(frame: bytes) -> None:
    assert_dies(EnclaveSession(), frame, RefusalCode.PROTOCOL)
    assert_dies(open_session(), frame, RefusalCode.PROTOCOL)


@pytest.mark.parametrize("head", ["ffffffff 03", "00000000 03", "0000000b 03" + "00" * 10, "01400000 03"])
def test_a_request_of_a_wrong_length_ends_the_session(head: str) -> None:
    assert_dies(open_session(), bytes.fromhex(head), RefusalCode.PROTOCOL)


def test_before_the_challenge_no_more_than_a_challenge_is_taken() -> None:
    assert_dies(EnclaveSession(), bytes.fromhex("00000024 01"), RefusalCode.PROTOCOL)
    assert_dies(EnclaveSession(), bytes.fromhex("00000022 01") + bytes(33), RefusalCode.PROTOCOL)


def test_where_the_enclave_dialed_out_it_takes_no_request() -> None:
    assert_dies(open_session(accepts_requests=False), sealed_frame(sealed(0)), RefusalCode.PROTOCOL)


def test_evidence_without_a_challenge_is_a_bug_of_the_caller() -> None:
    session = EnclaveSession()
    with pytest.raises(RuntimeError, match="without a challenge"):
        session.evidence(b"d", b"k")
    session.receive(CHALLENGE_FRAME)
    session.evidence(b"d", b"k")
    with pytest.raises(RuntimeError, match="without a challenge"):
        session.evidence(b"d", b"k")


@pytest.mark.parametrize(
    ("suite", "ciphertext"),
    [
        pytest.param(1, CIPHERTEXT, id="cut"),
        pytest.param(2, bytes(200), id="zeros"),
        pytest.param(3, bytes(200), id="unknown suite"),
        pytest.param(2, sealed(1).ciphertext, id="sealed for another counter"),
        pytest.param(1, sealed(0).ciphertext, id="sealed for another suite"),
        pytest.param(2, sealed(0, transcript=bytes(48)).ciphertext, id="sealed in another session"),
    ],
)
def test_a_request_that_is_not_of_this_session_is_unreadable(suite: int, ciphertext: bytes) -> None:
    [event] = open_session().receive(sealed_frame(Sealed(0, suite, ciphertext)))
    assert isinstance(event, SealedReceived)
    with pytest.raises(SessionError) as caught:
        open_request(KEYS, event)
    assert caught.value.code is RefusalCode.UNREADABLE
    assert caught.value.request_id == request_id(SESSION_ID, 0)


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\xff\xff", b"\0\1\xf6picture"])
def test_well_sealed_content_that_is_no_request_is_unreadable(content: bytes) -> None:
    suite = SuiteId.MLKEM768_X25519
    info = request_info(suite, request_id(SESSION_ID, 0), TRANSCRIPT)
    frame = sealed_frame(Sealed(0, suite, seal_request(suite, KEYS.public[suite], [content], info)))
    [event] = open_session().receive(frame)
    assert isinstance(event, SealedReceived)
    with pytest.raises(SessionError) as caught:
        open_request(KEYS, event)
    assert caught.value.code is RefusalCode.UNREADABLE


@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans())
def test_any_stream_is_events_or_a_session_error(chunks: list[bytes], is_open: bool) -> None:
    session = open_session() if is_open else EnclaveSession()
    try:
        for chunk in chunks:
            session.receive(chunk)
    except SessionError:
        with pytest.raises(SessionError):
            session.receive(b"")
