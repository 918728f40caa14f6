"""The first protocol of every connection: it learns what the peer speaks, and hands the connection on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ssl import SSLObject
from typing import cast

from enclavectl.config.gateway import GatewayConfig
from enclavectl.gateway.frames_end import FramesEnd
from enclavectl.gateway.openings import Opening
from enclavectl.gateway.tally import Carrier
from enclavectl.gateway.tls import ALPN
from enclavectl.gateway.websocket_end import Decide, WebSocketEnd

# A frame's length is below 2**25, so a stream of frames begins with this byte, and no request does.
_FRAME_BYTE = 0


class Door(asyncio.Protocol):
    """Waits for ALPN or the first byte, and makes the connection's end.

    ``begin_frames`` gives an end of raw frames its session; ``decide`` does so for a request over HTTP.
    """

    def __init__(
        self,
        limits: GatewayConfig,
        opening: Opening,
        begin_frames: Callable[[Door, FramesEnd], None],
        decide: Callable[[Door], Decide],
    ) -> None:
        self._limits = limits
        self._begin_frames = begin_frames
        self._decide = decide
        self.opening = opening
        self.transport: asyncio.Transport | None = None
        self.end: FramesEnd | WebSocketEnd | None = None
        # Of a client certificate that TLS has verified: its bytes and its fields.
        self.peer_der: bytes | None = None
        self.peer_fields: dict[str, object] = {}
        # Set by the listener, which may have read it from a PROXY header.
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look at what TLS has agreed on."""
        self.transport = made = cast("asyncio.Transport", transport)
        tls = transport.get_extra_info("ssl_object")
        if isinstance(tls, SSLObject):
            self.peer_der = tls.getpeercert(binary_form=True)
            self.peer_fields = dict(tls.getpeercert() or {}) if self.peer_der else {}
            if tls.selected_alpn_protocol() == ALPN:
                self._open(Carrier.FRAMES, made)

    def data_received(self, data: bytes) -> None:
        """Choose by the first byte, and hand it on."""
        if self.end is None and self.transport is not None:
            carrier = Carrier.FRAMES if data[0] == _FRAME_BYTE else Carrier.WEBSOCKET
            self._open(carrier, self.transport)
        if self.end is not None:
            self.end.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Give the place back; from here on the end hears of it instead."""
        self.opening.leave()

    def _open(self, carrier: Carrier, transport: asyncio.Transport) -> None:
        if carrier is Carrier.FRAMES:
            frames = FramesEnd(transport, self._limits.linger_s, self.opening.leave)
            self.end = frames
            transport.set_protocol(frames)
            self._begin_frames(self, frames)
        else:
            self.end = WebSocketEnd(transport, self._limits, self._decide(self), self.opening.leave)
            transport.set_protocol(self.end)
