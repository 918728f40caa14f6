import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.wire import MAX_FRAME_BYTES, Frame, FrameReader, FrameType, WireError, encode_frame

LIMITS = dict.fromkeys(FrameType, 100)


def frame_with(frame_type: FrameType, body: bytes) -> Frame:
    return Frame(frame_type, memoryview(body))


bodies = st.binary(max_size=100)
frames = st.lists(st.builds(frame_with, st.sampled_from(FrameType), bodies), max_size=5)


def drain(reader: FrameReader) -> list[Frame]:
    found = []
    while (frame := reader.next_frame()) is not None:
        found.append(frame)
    return found


def stream_of(sent: list[Frame]) -> bytes:
    return b"".join(encode_frame(frame.type, frame.body) for frame in sent)


def test_a_frame_is_length_type_and_body() -> None:
    assert encode_frame(FrameType.SEALED, b"abc") == bytes.fromhex("00000004 03 616263")


@given(frames)
def test_frames_come_out_as_they_went_in_whole(sent: list[Frame]) -> None:
    reader = FrameReader(LIMITS)
    reader.feed(stream_of(sent))
    assert drain(reader) == sent
    assert not reader.is_mid_frame


@given(frames)
def test_frames_come_out_as_they_went_in_byte_by_byte(sent: list[Frame]) -> None:
    reader = FrameReader(LIMITS)
    found = []
    for byte in stream_of(sent):
        reader.feed(bytes([byte]))
        found += drain(reader)
    assert found == sent
    assert not reader.is_mid_frame


@given(frames, st.binary(min_size=1, max_size=4))
def test_trailing_bytes_are_the_start_of_the_next_frame(sent: list[Frame], trailing: bytes) -> None:
    reader = FrameReader(LIMITS)
    reader.feed(stream_of(sent) + trailing)
    assert drain(reader) == sent
    assert reader.is_mid_frame


@given(frames, st.data())
def test_every_cut_shows_as_a_frame_under_way(sent: list[Frame], data: st.DataObject) -> None:
    stream = stream_of(sent)
    cut = data.draw(st.integers(0, len(stream)))
    boundaries = {len(stream_of(sent[:count])) for count in range(len(sent) + 1)}
    reader = FrameReader(LIMITS)
    reader.feed(stream[:cut])
    found = drain(reader)
    assert found == sent[: len(found)]
    assert reader.is_mid_frame is (cut not in boundaries)


@pytest.mark.parametrize("length", [101, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_over_the_limit_is_refused_from_the_header_alone(length: int) -> None:
    reader = FrameReader({FrameType.CHALLENGE: 99})
    reader.feed(length.to_bytes(4, "big") + bytes([FrameType.CHALLENGE]))
    with pytest.raises(WireError, match=f"claims {length} bytes; at most 100"):
        reader.next_frame()
    assert not reader.is_mid_frame  # and nothing of it is kept


def test_the_limit_itself_is_allowed() -> None:
    reader = FrameReader({FrameType.CHALLENGE: 99})
    reader.feed(encode_frame(FrameType.CHALLENGE, bytes(99)))
    assert drain(reader) == [Frame(FrameType.CHALLENGE, memoryview(bytes(99)))]


def test_no_limit_of_a_session_goes_over_the_limit_of_the_protocol() -> None:
    reader = FrameReader({FrameType.SEALED: 2 * MAX_FRAME_BYTES})
    reader.feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big") + bytes([FrameType.SEALED]))
    with pytest.raises(WireError):
        reader.next_frame()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("00000000 01", id="a length of zero has no room for the type"),
        pytest.param("00000001 00", id="type zero"),
        pytest.param("00000001 06", id="unknown type"),
        pytest.param("00000001 ff", id="unknown type 255"),
        pytest.param("00000001 02", id="known, but not acceptable now"),
        pytest.param("474554202f", id="GET /"),
    ],
)
def test_a_head_that_is_not_acceptable_is_refused(head: str) -> None:
    reader = FrameReader({FrameType.CHALLENGE: 34})
    reader.feed(bytes.fromhex(head))
    with pytest.raises(WireError):
        reader.next_frame()


def test_a_frame_is_its_parts_joined() -> None:
    parts = (b"a", b"", memoryview(b"bc"))
    assert encode_frame(FrameType.SEALED, *parts) == encode_frame(FrameType.SEALED, b"abc")


def test_many_small_frames_in_one_buffer_cost_their_own_size_each() -> None:
    # What copied the rest of the buffer for each frame took minutes here, and the time limit ends that.
    count = 100_000
    reader = FrameReader(LIMITS)
    reader.feed(encode_frame(FrameType.SEALED, b"small") * count)
    found = drain(reader)
    assert len(found) == count
    # Nor does its view keep the whole buffer alive.
    assert len(bytes(found[0].body.obj)) < 20


def test_a_large_frame_is_handed_on_and_later_ones_do_not_touch_it() -> None:
    reader = FrameReader({FrameType.SEALED: 1000})
    reader.feed(encode_frame(FrameType.SEALED, b"1" * 1000) + encode_frame(FrameType.SEALED, b"2"))
    first, second = drain(reader)
    reader.feed(encode_frame(FrameType.SEALED, b"3" * 1000))
    assert (bytes(first.body), bytes(second.body)) == (b"1" * 1000, b"2")
    assert first.body.readonly
    assert second.body.readonly


def test_an_error_stays_and_nothing_is_kept_after_it() -> None:
    reader = FrameReader({FrameType.CHALLENGE: 34})
    reader.feed(bytes.fromhex("ffffffff 01"))
    with pytest.raises(WireError) as first:
        reader.next_frame()
    for _ in range(3):
        reader.feed(encode_frame(FrameType.CHALLENGE, bytes(34)))
        with pytest.raises(WireError) as again:
            reader.next_frame()
        assert again.value is first.value
        assert not reader.is_mid_frame


def test_limits_hold_from_when_they_are_set() -> None:
    reader = FrameReader({FrameType.CHALLENGE: 34})
    reader.feed(encode_frame(FrameType.CHALLENGE, b"one") + encode_frame(FrameType.SEALED, b"two"))
    assert reader.next_frame() == Frame(FrameType.CHALLENGE, memoryview(b"one"))
    reader.limits = {FrameType.SEALED: 3}
    assert reader.next_frame() == Frame(FrameType.SEALED, memoryview(b"two"))


@given(st.binary(max_size=60))
def test_any_bytes_are_frames_or_a_wire_error(data: bytes) -> None:
    reader = FrameReader(LIMITS)
    reader.feed(data)
    try:
        found = drain(reader)
    except WireError:
        return
    assert data.startswith(stream_of(found))


LARGE = 64 * 1024
LARGE_LIMITS = {FrameType.SEALED: 2 * LARGE}
large_bodies = st.lists(
    st.integers(LARGE - 12, LARGE + 300).map(
        lambda size: bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    ),
    min_size=1,
    max_size=3,
)


def receive(reader: FrameReader, stream: bytes, most: int) -> list[Frame]:
    """As a socket's reader does: into the room where there is one, ``most`` bytes at a time."""
    found = []
    while stream:
        room = reader.room()
        if room is None:
            count = min(most, len(stream))
            reader.feed(stream[:count])
        else:
            with room:
                count = min(most, len(stream), len(room))
                room[:count] = stream[:count]
            reader.filled(count)
        stream = stream[count:]
        found += drain(reader)
    return found


@given(large_bodies, st.integers(1000, 3 * LARGE), st.binary(max_size=3))
def test_large_frames_are_received_in_place(bodies: list[bytes], most: int, trailing: bytes) -> None:
    sent = [frame_with(FrameType.SEALED, body) for body in bodies]
    reader = FrameReader(LARGE_LIMITS)
    assert receive(reader, stream_of(sent) + trailing, most) == sent
    assert reader.is_mid_frame is bool(trailing)


@given(large_bodies, st.integers(1000, 3 * LARGE))
def test_large_frames_may_be_fed_as_well(bodies: list[bytes], most: int) -> None:
    sent = [frame_with(FrameType.SEALED, body) for body in bodies]
    reader, stream, found = FrameReader(LARGE_LIMITS), stream_of(sent), []
    for start in range(0, len(stream), most):
        reader.feed(stream[start : start + most])
        found += drain(reader)
    assert found == sent


def test_a_header_alone_commits_a_small_part_of_the_length_that_it_announces() -> None:
    """Sixty-four connections that announce 16 MiB and send no more have it from our memory no more."""
    tracemalloc.start()
    try:
        readers = [FrameReader({FrameType.SEALED: MAX_FRAME_BYTES}) for _ in range(64)]
        for reader in readers:
            reader.feed((16 << 20).to_bytes(4, "big") + bytes([FrameType.SEALED]))
            assert reader.next_frame() is None
            room = reader.room()
            assert room is not None
            room.release()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2 * LARGE


def test_a_buffer_is_never_more_than_twice_what_has_come() -> None:
    size = 5 << 20
    reader = FrameReader({FrameType.SEALED: MAX_FRAME_BYTES})
    stream = memoryview(encode_frame(FrameType.SEALED, bytes(range(256)) * (size // 256)))
    reader.feed(bytes(stream[:5]))
    arrived, rooms = 5, 0
    while (frame := reader.next_frame()) is None:
        room = reader.room()
        assert room is not None
        with room:
            assert arrived + len(room) <= max(2 * arrived, arrived + LARGE)
            count = len(room)
            room[:] = stream[arrived : arrived + count]
        reader.filled(count)
        arrived, rooms = arrived + count, rooms + 1
    assert frame.body == stream[5:]
    assert rooms < 10  # it doubles


def test_a_large_frame_has_room_for_itself_and_nothing_more() -> None:
    reader = FrameReader(LARGE_LIMITS)
    stream = encode_frame(FrameType.SEALED, bytes(LARGE))
    assert reader.room() is None
    reader.feed(stream[:5])
    assert reader.room() is None  # nobody has looked at the header yet
    assert reader.next_frame() is None
    room = reader.room()
    assert room is not None
    assert len(room) == LARGE
    assert reader.is_mid_frame


def test_a_small_frame_and_a_refused_one_have_no_room() -> None:
    reader = FrameReader(LARGE_LIMITS)
    reader.feed(encode_frame(FrameType.SEALED, bytes(100))[:-1])
    assert reader.next_frame() is None
    assert reader.room() is None
    reader = FrameReader({FrameType.SEALED: LARGE})
    reader.feed((LARGE + 2).to_bytes(4, "big") + bytes([FrameType.SEALED]))
    with pytest.raises(WireError):
        reader.next_frame()
    assert reader.room() is None
