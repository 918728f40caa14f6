"""The half of a session that talks to a client by WebSocket: messages' borders mean nothing.

The protocol is ``websockets`` without its I/O, so that bytes go from one transport to the other in one call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from enclavectl.config.gateway import GatewayConfig
from enclavectl.gateway.tally import Outcome
from enclavectl.gateway.upgrade import SUBPROTOCOL, HttpReply
from enclavectl.net.bucket import TokenBucket
from enclavectl.net.carriage import RefusalCode

if TYPE_CHECKING:
    from enclavectl.gateway.session import Session

# Nothing that a peer sends may be logged, and the library logs headers at its lower levels.
_LOGGER = logging.getLogger("enclavectl.gateway.websocket")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False
_LOGGER.setLevel(logging.CRITICAL)
_DATA = (Opcode.BINARY, Opcode.CONT)
# Half of a message at its bound: an honest client's messages are not copied together.
_BATCH_BYTES = 32 * 1024

Decide = Callable[["WebSocketEnd", Request], "Session | HttpReply"]


def _select(protocol: ServerProtocol, offered: object) -> Subprotocol:  # noqa: ARG001 - the library's signature
    return Subprotocol(SUBPROTOCOL)  # `upgrade.read_request` has seen that it is offered


def _batches(parts: list[bytes]) -> Iterator[bytes]:
    """Join small pieces, so that fragments of a byte cost no call each; large ones go on as they are.

    The enclave reads the first of a picture's pieces while the next one is unmasked.
    """
    small: list[bytes] = []
    size = 0
    for part in parts:
        small.append(part)
        size += len(part)
        if size >= _BATCH_BYTES:
            yield b"".join(small)
            small, size = [], 0
    if small:
        yield b"".join(small)


class WebSocketEnd(asyncio.Protocol):
    """Speaks HTTP once, then WebSocket. ``decide`` gives the session of a request, or its reply."""

    def __init__(
        self,
        transport: asyncio.Transport,
        limits: GatewayConfig,
        decide: Decide,
        lost: Callable[[], None],
    ) -> None:
        """``lost`` is called when the connection is gone."""
        self._lost = lost
        self._transport = transport
        self._limits = limits
        self._decide = decide
        self._session: Session | None = None
        self._request_bytes = 0
        self._control = TokenBucket(limits.control_per_s, limits.control_burst)
        self._ping_at: float | None = None
        self._pong_due: float | None = None
        self._is_held = False
        self._is_full = False
        self._loop = asyncio.get_running_loop()
        self._ws = ServerProtocol(
            extensions=None,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            select_subprotocol=_select,
            max_size=limits.message_bytes,
            logger=_LOGGER,
        )

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        """Read what the client sent."""
        if self._session is None and not self._takes_more_request(data):
            return
        self._ws.receive_data(data)
        parts: list[bytes] = []
        events = self._ws.events_received()
        for event in events:
            if isinstance(event, Request):
                if len(events) > 1 or self._ws.eof_sent or self._ws.state is not State.CONNECTING:
                    # The library cannot answer a request any more once it has read what must not follow one.
                    self._transport.abort()
                    return
                self._answer_request(event)
            elif isinstance(event, Frame):
                self._take_frame(event, parts)
        for batch in _batches(parts):
            if self._session is not None:
                self._session.from_client(batch)
        self._flush()
        if self._ws.state is not State.OPEN and self._session is not None:
            self._end_by_peer()

    def eof_received(self) -> None:
        """Let the transport close."""
        self._ws.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the session."""
        self._lost()
        if self._session is not None:
            self._session.client_lost()

    def pause_writing(self) -> None:
        """Stop both sides: the enclave's answers and our pongs both wait for this client."""
        self._is_full = True
        self._transport.pause_reading()
        if self._session is not None:
            self._session.client_can_write(is_full=True)

    def resume_writing(self) -> None:
        """Let both sides go on."""
        self._is_full = False
        if not self._is_held:
            self._transport.resume_reading()
        if self._session is not None:
            self._session.client_can_write(is_full=False)

    # The session's side

    def send(self, data: bytes) -> None:
        """Send bytes in messages within the bound."""
        if self._ws.state is not State.OPEN:
            return
        size = self._limits.message_bytes
        for at in range(0, len(data), size):
            self._ws.send_binary(data[at : at + size])
        self._flush()

    def hold(self, *, is_held: bool) -> None:
        """Stop reading from the client, or go on."""
        self._is_held = is_held
        if is_held:
            self._transport.pause_reading()
        elif not self._is_full:
            self._transport.resume_reading()

    def close(self, last: bytes = b"", code: int = CloseCode.NORMAL_CLOSURE) -> None:
        """Send the last bytes and a close frame, and give the client time to answer it."""
        if self._ws.state is State.OPEN:
            if last:
                self._ws.send_binary(last)
            self._ws.send_close(code)
            self._flush()
        self._abort_later()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def check(self, now: float) -> None:
        """Ping a client that has been here for a while; end one that does not answer."""
        if self._ws.state is not State.OPEN or self._session is None:
            return
        if self._ping_at is None:
            self._ping_at = now + self._limits.ping_s
        elif self._pong_due is not None and now > self._pong_due:
            self._session.refuse(RefusalCode.SLOW, Outcome.SLOW)
        elif self._pong_due is None and now >= self._ping_at:
            self._ping_at, self._pong_due = now + self._limits.ping_s, now + self._limits.ping_s
            self._ws.send_ping(b"")
            self._flush()

    # Inside

    def _takes_more_request(self, data: bytes) -> bool:
        self._request_bytes += len(data)
        if self._request_bytes > self._limits.request_bytes:
            self._transport.abort()
            return False
        return True

    def _answer_request(self, request: Request) -> None:
        decided = self._decide(self, request)
        if isinstance(decided, HttpReply):
            response = self._ws.reject(decided.status, decided.text)
            for name, value in decided.headers:
                response.headers[name] = value
            self._ws.send_response(response)
            self._abort_later()
            return
        self._session = decided
        response = self._ws.accept(request)
        self._ws.send_response(response)
        if response.status_code != 101:  # it was no WebSocket after all
            decided.client_lost()
            self._session = None
            self._abort_later()

    def _take_frame(self, frame: Frame, parts: list[bytes]) -> None:
        if frame.opcode in _DATA and frame.data:
            parts.append(frame.data if isinstance(frame.data, bytes) else bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self._fail(CloseCode.UNSUPPORTED_DATA)
        elif frame.opcode is not Opcode.CLOSE:  # a ping, a pong, or a message without a byte
            if frame.opcode is Opcode.PONG:
                self._pong_due = None
            if self._control.take(1, self._loop.time()) > 0:
                self._fail(CloseCode.POLICY_VIOLATION)

    def _fail(self, code: CloseCode) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            session.end_for_protocol()
        if self._ws.state is State.OPEN:
            self._ws.fail(code)
        self._abort_later()

    def _end_by_peer(self) -> None:
        """End the session: the client has said goodbye, or broke the rules of WebSocket."""
        session, self._session = self._session, None
        if session is None:
            return
        received = self._ws.close_rcvd
        if received is not None:
            session.client_lost()
        else:
            session.end_for_protocol()
        self._abort_later()

    def _flush(self) -> None:
        for data in self._ws.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()

    def _abort_later(self) -> None:
        self._loop.call_later(self._limits.linger_s, self._transport.abort)
