import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.contents import Request
from enclave_payload.media import MediaType
from enclave_payload.messages import (
    Answer,
    AnswerKind,
    Challenge,
    Evidence,
    Refusal,
    RefusalCode,
    Sealed,
    parse_evidence,
    request_id,
    transcript_hash,
)
from enclave_payload.seal import SuiteId, generate_keys, request_info, seal_request
from enclave_payload.session import (
    ChallengeReceived,
    EnclaveSession,
    Event,
    SealedReceived,
    SessionError,
    open_request,
)
from enclave_payload.wire import HEADER_BYTES

KEYS = generate_keys()
SESSION_ID = bytes(range(16))
CHALLENGE = Challenge(bytes(range(32)))
EVIDENCE = Evidence(SESSION_ID, b"document", b"key configuration")
TRANSCRIPT = transcript_hash(CHALLENGE.to_body(), EVIDENCE.to_body())
REQUEST = Request(picture=b"picture", media_type=MediaType.PNG, reply_key=bytes(32))


def open_session(*, accepts_requests: bool = True) -> EnclaveSession:
    session = EnclaveSession(SESSION_ID, accepts_requests=accepts_requests)
    assert session.receive(CHALLENGE.to_frame()) == [ChallengeReceived(CHALLENGE.nonce)]
    session.evidence(EVIDENCE.document, EVIDENCE.key_config)
    return session


def sealed(counter: int, *, suite: SuiteId = SuiteId.X25519, transcript: bytes = TRANSCRIPT) -> Sealed:
    info = request_info(suite, request_id(SESSION_ID, counter), transcript)
    return Sealed(counter, suite, seal_request(suite, KEYS.public[suite], REQUEST.to_parts(), info))


def assert_dies(session: EnclaveSession, data: bytes, code: RefusalCode) -> SessionError:
    """``data`` ends the session with ``code``, and it stays ended whatever comes."""
    with pytest.raises(SessionError) as first:
        session.receive(data)
    assert first.value.code is code
    for later in (b"", CHALLENGE.to_frame(), Sealed(99, 1, b"c").to_frame()):
        with pytest.raises(SessionError) as again:
            session.receive(later)
        assert again.value is first.value
    with pytest.raises(RuntimeError, match="without a challenge"):
        session.evidence(b"d", b"k")
    return first.value


def byte_by_byte(session: EnclaveSession, data: bytes) -> list[Event]:
    return [event for byte in data for event in session.receive(bytes([byte]))]


def test_the_evidence_carries_the_session_id_and_both_parts() -> None:
    session = EnclaveSession(SESSION_ID)
    session.receive(CHALLENGE.to_frame())
    frame = session.evidence(EVIDENCE.document, EVIDENCE.key_config)
    assert parse_evidence(frame[HEADER_BYTES:]) == EVIDENCE


@pytest.mark.parametrize("suite", list(SuiteId))
def test_a_sealed_request_comes_out_and_opens(suite: SuiteId) -> None:
    session = open_session()
    request = sealed(0, suite=suite)
    [event] = session.receive(request.to_frame())
    assert isinstance(event, SealedReceived)
    assert event.request_id == request_id(SESSION_ID, 0)
    assert open_request(KEYS, event) == REQUEST


def test_many_requests_come_out_in_order_whole_and_byte_by_byte() -> None:
    stream = b"".join(Sealed(counter, 1, b"c" * counter).to_frame() for counter in (1, 2, 7, 2**64 - 1)[:3])
    stream += Sealed(2**64 - 1, 1, b"last").to_frame()
    whole, slow = open_session(), open_session()
    events = whole.receive(stream)
    assert events == byte_by_byte(slow, stream)
    ids = [event.request_id for event in events if isinstance(event, SealedReceived)]
    assert ids == [request_id(SESSION_ID, counter) for counter in (1, 2, 7, 2**64 - 1)]
    assert not whole.is_mid_frame


def test_a_challenge_byte_by_byte_is_one_event() -> None:
    session = EnclaveSession(SESSION_ID)
    assert byte_by_byte(session, CHALLENGE.to_frame()) == [ChallengeReceived(CHALLENGE.nonce)]


def test_half_a_frame_is_no_event_but_shows() -> None:
    session = open_session()
    frame = sealed(0).to_frame()
    assert session.receive(frame[:-1]) == []
    assert session.is_mid_frame
    assert len(session.receive(frame[-1:])) == 1
    assert not session.is_mid_frame


@pytest.mark.parametrize("last", [0, 1, 5])
@pytest.mark.parametrize("step", [0, -1, -5])
def test_a_counter_that_does_not_grow_is_a_replay(last: int, step: int) -> None:
    session = open_session()
    session.receive(Sealed(last, 1, b"c").to_frame())
    repeated = max(last + step, 0)
    error = assert_dies(session, Sealed(repeated, 1, b"d").to_frame(), RefusalCode.REPLAYED)
    assert error.request_id == request_id(SESSION_ID, repeated)


def test_a_request_before_the_challenge_ends_the_session() -> None:
    assert_dies(EnclaveSession(SESSION_ID), sealed(0).to_frame(), RefusalCode.PROTOCOL)


def test_a_request_behind_the_challenge_does_not_wait_for_the_evidence() -> None:
    assert_dies(EnclaveSession(SESSION_ID), CHALLENGE.to_frame() + sealed(0).to_frame(), RefusalCode.PROTOCOL)


def test_a_request_while_attesting_ends_the_session() -> None:
    session = EnclaveSession(SESSION_ID)
    session.receive(CHALLENGE.to_frame())
    assert_dies(session, sealed(0).to_frame(), RefusalCode.PROTOCOL)


def test_a_second_challenge_ends_the_session() -> None:
    assert_dies(EnclaveSession(SESSION_ID), CHALLENGE.to_frame() * 2, RefusalCode.PROTOCOL)
    assert_dies(open_session(), CHALLENGE.to_frame(), RefusalCode.PROTOCOL)


@pytest.mark.parametrize("version", [0, 2, 0xFFFF])
def test_another_version_is_refused_as_such(version: int) -> None:
    assert_dies(EnclaveSession(SESSION_ID), Challenge(bytes(32), version).to_frame(), RefusalCode.VERSION)


@pytest.mark.parametrize(
    "message",
    [EVIDENCE, Answer(bytes(24), AnswerKind.FINAL, bytes(4112)), Refusal(RefusalCode.BUSY)],
    ids=lambda message: type(message).__name__,
)
def test_what_only_an_enclave_sends_is_not_taken(message: Evidence | Answer | Refusal) -> None:
    assert_dies(EnclaveSession(SESSION_ID), message.to_frame(), RefusalCode.PROTOCOL)
    assert_dies(open_session(), message.to_frame(), RefusalCode.PROTOCOL)


@pytest.mark.parametrize("head", ["ffffffff 03", "00000000 03", "0000000b 03" + "00" * 10, "01400000 03"])
def test_a_request_of_a_wrong_length_ends_the_session(head: str) -> None:
    assert_dies(open_session(), bytes.fromhex(head), RefusalCode.PROTOCOL)


def test_before_the_challenge_no_more_than_a_challenge_is_taken() -> None:
    assert_dies(EnclaveSession(SESSION_ID), bytes.fromhex("00000024 01"), RefusalCode.PROTOCOL)
    assert_dies(EnclaveSession(SESSION_ID), bytes.fromhex("00000022 01") + bytes(33), RefusalCode.PROTOCOL)


def test_where_the_enclave_dialed_out_it_takes_no_request() -> None:
    assert_dies(open_session(accepts_requests=False), sealed(0).to_frame(), RefusalCode.PROTOCOL)


def test_evidence_without_a_challenge_is_a_bug_of_the_caller() -> None:
    session = EnclaveSession(SESSION_ID)
    with pytest.raises(RuntimeError, match="without a challenge"):
        session.evidence(b"d", b"k")
    session.receive(CHALLENGE.to_frame())
    session.evidence(b"d", b"k")
    with pytest.raises(RuntimeError, match="without a challenge"):
        session.evidence(b"d", b"k")


@pytest.mark.parametrize(
    ("suite", "ciphertext"),
    [
        pytest.param(1, b"\0", id="cut"),
        pytest.param(2, bytes(200), id="zeros"),
        pytest.param(3, bytes(200), id="unknown suite"),
        pytest.param(2, sealed(1).ciphertext, id="sealed for another counter"),
        pytest.param(1, sealed(0).ciphertext, id="sealed for another suite"),
        pytest.param(2, sealed(0, transcript=bytes(48)).ciphertext, id="sealed in another session"),
    ],
)
def test_a_request_that_is_not_of_this_session_is_unreadable(suite: int, ciphertext: bytes) -> None:
    [event] = open_session().receive(Sealed(0, suite, ciphertext).to_frame())
    assert isinstance(event, SealedReceived)
    with pytest.raises(SessionError) as caught:
        open_request(KEYS, event)
    assert caught.value.code is RefusalCode.UNREADABLE
    assert caught.value.request_id == request_id(SESSION_ID, 0)


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\xff\xff", b"\0\1\xf6picture"])
def test_well_sealed_content_that_is_no_request_is_unreadable(content: bytes) -> None:
    suite = SuiteId.X25519
    info = request_info(suite, request_id(SESSION_ID, 0), TRANSCRIPT)
    frame = Sealed(0, suite, seal_request(suite, KEYS.public[suite], [content], info)).to_frame()
    [event] = open_session().receive(frame)
    assert isinstance(event, SealedReceived)
    with pytest.raises(SessionError) as caught:
        open_request(KEYS, event)
    assert caught.value.code is RefusalCode.UNREADABLE


@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans())
def test_any_stream_is_events_or_a_session_error(chunks: list[bytes], is_open: bool) -> None:
    session = open_session() if is_open else EnclaveSession(SESSION_ID)
    try:
        for chunk in chunks:
            session.receive(chunk)
    except SessionError:
        with pytest.raises(SessionError):
            session.receive(b"")
