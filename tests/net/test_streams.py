"""Bytes of a WebSocket and of an HTTP head, in any pieces: the pieces mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.server import ServerProtocol

from enclave_payload.wire import Buffer
from enclavectl.errors import EnclaveBusy, EnclavectlError, EnclaveLost, PeerProtocolError
from enclavectl.net.access import NO_ACCESS, Access
from enclavectl.net.address import WebSocketAddress
from enclavectl.net.http_head import HttpError, read_head
from enclavectl.net.websocket import MESSAGE_BYTES, SUBPROTOCOL, WebSocketStream, open_websocket

ADDRESS = WebSocketAddress("gateway.test", 443, "/v1", is_secure=True)
# No stream here waits, so any moment that has not passed will do.
FAR = 1e18


class Pieces:
    """A stream that has these pieces to read, then would wait, or ends; it takes ``room`` bytes a call."""

    def __init__(self, pieces: Iterator[bytes], *, ends: bool = False, room: int = 1 << 20) -> None:
        self.pieces = pieces
        self._ends = ends
        self.room = room
        self.sent = b""

    def settimeout(self, value: float | None, /) -> None:
        pass

    def sendmsg(self, buffers: Sequence[Buffer], /) -> int:
        if self.room == 0:
            raise BlockingIOError
        data = b"".join(buffers)[: self.room]
        self.sent += data
        return len(data)

    def recv(self, bufsize: int, /) -> bytes:
        assert bufsize >= 3000, "no piece is longer"
        try:
            return next(self.pieces)
        except StopIteration:
            if self._ends:
                return b""
            raise BlockingIOError from None

    def close(self) -> None:
        pass


class Server(Pieces):
    """The other end as the library has it: upgrades, then sends ``after`` in these pieces."""

    def __init__(
        self, after: bytes, sizes: Sequence[int], *, ends: bool = False, room: int = 1 << 20
    ) -> None:
        super().__init__(self._answer(after, sizes), ends=ends, room=room)
        self.protocol = ServerProtocol(subprotocols=[SUBPROTOCOL], max_size=MESSAGE_BYTES)

    def _answer(self, after: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
        self.protocol.receive_data(self.sent)
        [request] = self.protocol.events_received()
        self.head, self.sent = self.sent, b""
        self.protocol.send_response(self.protocol.accept(request))  # type: ignore[arg-type]  # it is a request
        yield from cut(b"".join(self.protocol.data_to_send()) + after, sizes)

    def received(self) -> bytes:
        """What the client's messages hold; each must be of a size that gateways take."""
        self.protocol.receive_data(self.sent)
        frames = [event for event in self.protocol.events_received() if isinstance(event, Frame)]
        assert self.protocol.parser_exc is None
        return b"".join(bytes(one.data) for one in frames if one.opcode is Opcode.BINARY)


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    for size in sizes:
        if not data:
            return
        yield data[:size]
        data = data[size:]
    if data:
        yield data


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


def opened(server: Server, access: Access = NO_ACCESS) -> WebSocketStream:
    stream = open_websocket(server, ADDRESS, access, FAR)
    stream.settimeout(60)
    return stream


def read_all(stream: WebSocketStream, size: int = 65536) -> tuple[bytes, EnclavectlError | None]:
    data = b""
    try:
        while more := stream.recv(size):
            assert len(more) <= size
            data += more
    except EnclavectlError as error:
        return data, error
    except BlockingIOError:
        return data, None
    return data, None


pieces = st.lists(st.integers(min_value=1, max_value=3000), max_size=40)
messages = st.lists(st.binary(max_size=300), max_size=12)


@given(messages, pieces, st.integers(min_value=1, max_value=400))
def test_messages_are_one_stream_of_bytes(texts: list[bytes], sizes: list[int], size: int) -> None:
    after = b"".join(frame(Opcode.BINARY, text) + frame(Opcode.PING, b"p") for text in texts)
    server = Server(after, sizes)
    assert read_all(opened(server), size) == (b"".join(texts), None)
    server.protocol.receive_data(server.sent)
    pongs = [one for one in server.protocol.events_received() if isinstance(one, Frame)]
    assert [one.opcode for one in pongs] == [Opcode.PONG] * len(texts)


@given(st.binary(min_size=2, max_size=500), st.data())
def test_fragments_of_a_message_are_bytes_like_others(text: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(min_value=1, max_value=len(text) - 1))
    after = frame(Opcode.BINARY, text[:at], fin=False) + frame(Opcode.CONT, text[at:])
    assert read_all(opened(Server(after, [7] * 100)))[0] == text


@given(st.lists(st.binary(min_size=1, max_size=200_000), max_size=4), st.integers(min_value=1, max_value=5))
def test_what_is_sent_arrives_in_messages_that_gateways_take(texts: list[bytes], room: int) -> None:
    server = Server(b"", [], room=room * 10_000)
    stream = opened(server)
    for text in texts:
        rest = memoryview(text)
        while rest:
            sent = stream.sendmsg([b"", rest])
            assert 0 < sent <= MESSAGE_BYTES
            rest = rest[sent:]
    assert server.received() == b"".join(texts)


def test_a_token_is_in_the_request_and_compression_is_not() -> None:
    server = Server(b"", [])
    opened(server, Access(token="abc"))
    assert b"Authorization: Bearer abc\r\n" in server.head
    assert b"Sec-WebSocket-Extensions" not in server.head


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1013, EnclaveBusy), (1012, EnclaveLost), (1008, EnclaveLost), (1011, EnclaveLost), (4000, EnclaveLost)],
)
def test_what_came_before_a_goodbye_is_read_first(code: int, kind: type[EnclavectlError]) -> None:
    after = frame(Opcode.BINARY, b"last words") + frame(Opcode.CLOSE, Close(code, "why").serialize())
    stream = opened(Server(after, [1] * 1000, ends=True))
    data, error = read_all(stream)
    assert data == b"last words"
    assert type(error) is kind
    assert error.hint
    with pytest.raises(BrokenPipeError):
        stream.sendmsg([b"more"])


@pytest.mark.parametrize("after", [b"", frame(Opcode.CLOSE, Close(1000, "").serialize())])
def test_an_end_without_a_reason_is_the_end_of_the_stream(after: bytes) -> None:
    assert read_all(opened(Server(after, [], ends=True))) == (b"", None)


@pytest.mark.parametrize(
    "after",
    [
        frame(Opcode.BINARY, bytes(MESSAGE_BYTES + 1)),
        Frame(Opcode.BINARY, b"masked").serialize(mask=True),
        frame(Opcode.CONT, b"of nothing"),
        b"\xff\xff\xff\xff",
        frame(Opcode.TEXT, b"text"),
    ],
)
def test_what_breaks_the_rules_ends_the_session(after: bytes) -> None:
    data, error = read_all(opened(Server(after, [])))
    assert data == b""
    assert isinstance(error, PeerProtocolError)


@pytest.mark.parametrize(
    "vain",
    [
        frame(Opcode.PING, b""),
        frame(Opcode.PONG, b""),
        frame(Opcode.BINARY, b""),
        frame(Opcode.BINARY, b"", fin=False)
        + frame(Opcode.CONT, b"", fin=False) * 9
        + frame(Opcode.CONT, b""),
    ],
)
def test_frames_that_bring_nothing_hold_nobody(vain: bytes) -> None:
    """There is always something to read, so no deadline would end the wait, nor a look while we send."""

    def flood() -> Iterator[bytes]:
        yield from [vain * 20] * 500
        raise AssertionError("it reads on and on")

    for is_sending in (False, True):
        server = Server(b"", [])
        stream = opened(server)
        server.pieces = flood()
        if is_sending:
            stream.sendmsg([b"picture"])
        with pytest.raises(PeerProtocolError, match="without end"):
            stream.recv(1)


def test_pings_whose_answers_nobody_reads_end_the_session() -> None:
    server = Server(frame(Opcode.PING, bytes(125)) * 80, [2000] * 2000)
    stream = opened(server)
    server.room = 0
    _, error = read_all(stream)
    assert isinstance(error, PeerProtocolError)
    assert "does not read" in error.message


HEAD = b"HTTP/1.1 200 OK\r\nA: b\r\nX-Y:  z \r\n\r\n"


@given(st.lists(st.integers(min_value=1, max_value=20), max_size=40), st.binary(max_size=30))
def test_a_head_in_any_pieces(sizes: list[int], rest: bytes) -> None:
    stream = Pieces(cut(HEAD + rest, sizes), ends=True)
    head = read_head(stream, FAR)
    assert (head.status, dict(head.headers), head.raw) == (200, {"a": "b", "x-y": "z"}, HEAD)
    assert rest.startswith(head.rest)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    try:
        found = read_head(Pieces(cut(data, [50]), ends=True), FAR)
    except (HttpError, ConnectionError):
        return
    assert data.startswith(found.raw)
