"""The half of a session that talks to a client by raw frames, over TLS or TCP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enclavectl.gateway.session import Session


class FramesEnd(asyncio.Protocol):
    """Hands a client's bytes to its session as they come."""

    def __init__(self, transport: asyncio.Transport, linger_s: float, lost: Callable[[], None]) -> None:
        """``lost`` is called when the connection is gone."""
        self._transport = transport
        self._lost = lost
        self._linger_s = linger_s
        self._session: Session | None = None
        self._is_closing = False

    def begin(self, session: Session) -> None:
        """Hand everything to this session from now on."""
        self._session = session

    def data_received(self, data: bytes) -> None:
        """Hand bytes on. After our last word they are read and dropped, so that it arrives."""
        if self._session is not None and not self._is_closing:
            self._session.from_client(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the session."""
        self._lost()
        if self._session is not None:
            self._session.client_lost()

    def pause_writing(self) -> None:
        """Stop the enclave: the client does not take more for now."""
        if self._session is not None:
            self._session.client_can_write(is_full=True)

    def resume_writing(self) -> None:
        """Let the enclave go on."""
        if self._session is not None:
            self._session.client_can_write(is_full=False)

    def send(self, data: bytes) -> None:
        """Send bytes, or keep them until the client reads."""
        self._transport.write(data)

    def hold(self, *, is_held: bool) -> None:
        """Stop reading from the client, or go on."""
        if is_held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def close(self, last: bytes = b"", code: int = 0) -> None:  # noqa: ARG002 - raw frames have no close codes
        """Send the last bytes, then the end of the stream, and give the client time to read both.

        Closing a socket that has unread bytes would reset the connection, and the client could lose them.
        """
        self._is_closing = True
        if last:
            self._transport.write(last)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()  # TLS: asyncio sends the alert and waits for the peer's
        asyncio.get_running_loop().call_later(self._linger_s, self._transport.abort)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
