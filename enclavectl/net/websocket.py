"""The protocol's bytes in WebSocket messages, as a ``ByteStream``.

The sans-I/O half of the library ``websockets`` makes and reads the frames. This module moves the bytes, so
that every wait has the caller's deadline and no thread reads behind its back. Where messages begin means
nothing.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from enclave_payload.wire import Buffer
from enclavectl.errors import EnclaveBusy, EnclavectlError, EnclaveLost, PeerProtocolError, visible
from enclavectl.net.access import Access
from enclavectl.net.address import WebSocketAddress
from enclavectl.net.bucket import TokenBucket
from enclavectl.net.http_head import HttpError, HttpHead, read_body_start, read_head, send_all
from enclavectl.net.stream import ByteStream
from enclavectl.net.upgrade import not_a_gateway, refused_upgrade

SUBPROTOCOL = Subprotocol("enclavectl.v1")
# What gateways take; larger messages would only wait longer in their memory.
MESSAGE_BYTES = 64 * 1024
_RECV_BYTES = 64 * 1024
# Answers that come while a picture is on its way are kept. Sixteen in flight have 70 KiB.
_MAX_WAITING_BYTES = 1024 * 1024
# Pongs wait only while the peer does not read.
_MAX_UNSENT_BYTES = 8 * 1024
# Frames that bring nothing: pings, and empty messages. Gateways ping each 20 s, and proxies now and then. A
# relay that sends them without end would hold us past every deadline: there is always something to read.
_VAIN_FRAMES_PER_S = 10.0
_VAIN_FRAMES_BURST = 100.0
# After a refusal its body comes at once; what it says is a help, not worth a wait.
_BODY_S = 2.0
_SWITCHING_PROTOCOLS = 101
# The library logs headers (with the token) and messages at DEBUG, whatever the root logger is set to.
_LOGGER = logging.getLogger("enclavectl.websocket")
_LOGGER.setLevel(logging.CRITICAL + 1)


def open_websocket(
    stream: ByteStream, address: WebSocketAddress, access: Access, deadline: float
) -> WebSocketStream:
    """Ask for the upgrade on a connected stream, by ``deadline`` on the monotonic clock.

    Raises:
        EnclavectlError: the peer refuses, is no gateway, or was lost; nothing but the request was sent.
    """
    protocol = ClientProtocol(
        parse_uri(str(address)), subprotocols=[SUBPROTOCOL], max_size=MESSAGE_BYTES, logger=_LOGGER
    )
    request = protocol.connect()
    if access.token is not None:
        request.headers["Authorization"] = f"Bearer {access.token}"
    protocol.send_request(request)
    try:
        send_all(stream, b"".join(protocol.data_to_send()), deadline)
        head = read_head(stream, deadline)
        if head.status != _SWITCHING_PROTOCOLS:
            body = read_body_start(stream, head, min(deadline, time.monotonic() + _BODY_S))
            raise refused_upgrade(address, head, body, has_token=access.token is not None)
    except TimeoutError as exc:
        raise EnclaveLost(
            f"{address}: connected, but the gateway did not answer in time",
            hint="is it a gateway's address? Its /healthz says whether it is well",
            code="no-answer",
        ) from exc
    except HttpError as exc:
        raise not_a_gateway(address, f"{exc}, which is not HTTP") from exc
    except OSError as exc:
        raise EnclaveLost(
            f"{address}: the connection ended before the gateway answered ({exc.strerror or exc})",
            hint="try again; it may be stopping, or a proxy cuts the upgrade to a WebSocket",
        ) from exc
    return _upgraded(stream, protocol, head, address)


def _upgraded(
    stream: ByteStream, protocol: ClientProtocol, head: HttpHead, address: WebSocketAddress
) -> WebSocketStream:
    protocol.receive_data(head.raw)
    protocol.events_received()
    if protocol.handshake_exc is not None:
        raise not_a_gateway(address, f"an upgrade that breaks RFC 6455 ({protocol.handshake_exc})")
    if protocol.subprotocol != SUBPROTOCOL:
        raise not_a_gateway(address, "a WebSocket server of something else")
    return WebSocketStream(stream, protocol, address, head.rest)


class WebSocketStream:
    """The stream of bytes in the binary messages of a connection, in each direction."""

    def __init__(
        self, stream: ByteStream, protocol: ClientProtocol, address: WebSocketAddress, received: bytes
    ) -> None:
        """Use ``open_websocket``; ``received`` are the bytes that came with the upgrade."""
        self._stream = stream
        self._protocol = protocol
        self._address = address
        self._timeout_s: float | None = None
        self._arrived: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._unsent: list[memoryview] = []
        self._is_over = False
        self._error: EnclavectlError | None = None
        self._vain_frames = TokenBucket(_VAIN_FRAMES_PER_S, _VAIN_FRAMES_BURST)
        if received:
            self._take(received)

    def settimeout(self, value: float | None, /) -> None:
        """Set how many seconds the next calls may wait."""
        self._timeout_s = value

    def sendmsg(self, buffers: Sequence[Buffer], /) -> int:
        """Send up to one message of the buffers' bytes.

        Raises:
            OSError: the connection is over; TimeoutError if it had to wait for longer, after which it is of
                no use: a part of the message may be sent.
        """
        if self._is_over:
            raise BrokenPipeError("the connection was closed")
        data = bytearray()
        for buffer in buffers:
            data += buffer[: MESSAGE_BYTES - len(data)]
        self._protocol.send_binary(data)
        self._push(self._deadline())
        self._look()
        return len(data)

    def recv(self, bufsize: int, /) -> bytes:
        """Return bytes of messages, or none after the end.

        Raises:
            OSError: the connection broke; TimeoutError or BlockingIOError if it had to wait for longer.
            EnclavectlError: the peer ended the connection with a reason, or broke the WebSocket protocol.
        """
        deadline = self._deadline()
        while not self._arrived:
            if self._is_over:
                if self._error is not None:
                    raise self._error
                return b""
            self._wait_until(deadline)
            self._take(self._stream.recv(_RECV_BYTES))
        first = self._arrived.popleft()
        if len(first) > bufsize:
            self._arrived.appendleft(first[bufsize:])
        self._waiting_bytes -= min(len(first), bufsize)
        return bytes(first[:bufsize])

    def close(self) -> None:
        """Say goodbye without waiting for an answer, and end the connection."""
        if not self._is_over:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            with suppress(OSError):
                self._push(time.monotonic())
        self._stream.close()

    def _deadline(self) -> float:
        return float("inf") if self._timeout_s is None else time.monotonic() + self._timeout_s

    def _wait_until(self, deadline: float) -> None:
        self._stream.settimeout(None if deadline == float("inf") else max(deadline - time.monotonic(), 0))

    def _push(self, deadline: float) -> None:
        """Send what the protocol has to send, by ``deadline``; keep what did not go."""
        self._unsent += [memoryview(part) for part in self._protocol.data_to_send() if part]
        while self._unsent:
            self._wait_until(deadline)
            sent = self._stream.sendmsg(self._unsent[:1])
            self._unsent[0] = self._unsent[0][sent:]
            if not self._unsent[0]:
                del self._unsent[0]

    def _look(self) -> None:
        """Take what has come, so that pings are answered while a picture is on its way."""
        while not self._is_over and self._waiting_bytes < _MAX_WAITING_BYTES:
            self._stream.settimeout(0)
            try:
                data = self._stream.recv(_RECV_BYTES)
            except OSError:
                return  # nothing there; what is wrong shows when somebody waits for it
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Take received bytes, none at the end of the stream, and answer pings and the peer's goodbye."""
        if data:
            self._protocol.receive_data(data)
        else:
            self._is_over = True
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._event(event)
        if self._protocol.parser_exc is not None and data:
            self._end(_broken(self._address, f"bytes that break RFC 6455 ({self._protocol.parser_exc})"))
        if data:
            with suppress(OSError):  # a pong that does not go now goes with what is sent next
                self._push(time.monotonic())
            if sum(map(len, self._unsent)) > _MAX_UNSENT_BYTES:
                self._end(_broken(self._address, "pings, whose answers it does not read"))

    def _event(self, frame: Frame) -> None:
        if frame.opcode in {Opcode.BINARY, Opcode.CONT} and len(frame.data):
            data = memoryview(frame.data)
            self._arrived.append(data)
            self._waiting_bytes += len(data)
        elif frame.opcode is Opcode.TEXT:
            self._protocol.fail(CloseCode.UNSUPPORTED_DATA)
            self._end(_broken(self._address, "text"))
        elif frame.opcode is not Opcode.CLOSE:
            if self._vain_frames.take(1, time.monotonic()) > 0:
                self._end(_broken(self._address, "pings or empty messages without end"))
        else:
            # Not close_code, which the library knows only once TCP has ended as well.
            said = self._protocol.close_rcvd
            self._end(None if said is None else _goodbye(self._address, said.code, said.reason))

    def _end(self, error: EnclavectlError | None) -> None:
        self._is_over = True
        if self._error is None:
            self._error = error


def _broken(address: WebSocketAddress, found: str) -> PeerProtocolError:
    return PeerProtocolError(
        f"{address}: expected binary messages of at most 64 KiB, found {found}",
        hint="is it a gateway, and of this release?",
    )


def _goodbye(address: WebSocketAddress, code: int, reason: str) -> EnclavectlError | None:
    """Return the error for a close code; None for an end that says nothing of its cause."""
    if code == CloseCode.TRY_AGAIN_LATER:
        return EnclaveBusy(
            f"{address} is busy",
            hint="try again later, or with fewer pictures at a time",
            code="refused-busy",
        )
    if code == CloseCode.SERVICE_RESTART:
        return EnclaveLost(f"{address} is stopping", hint="try again", code="refused-stopping")
    if code in {CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD}:
        return None
    hint = "try again"
    if code == CloseCode.POLICY_VIOLATION:
        hint = "was the token revoked, or has it expired? The gateway's operator knows"
    why = f": {visible(reason)}" if reason else ""
    return EnclaveLost(
        f"{address} ended the session (WebSocket code {code}){why}", hint=hint, code="session-ended"
    )
