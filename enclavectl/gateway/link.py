"""The half of a session that talks to the enclave, and how it is connected."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import Executor
from typing import TYPE_CHECKING, cast

from enclavectl.net.address import HostAddress
from enclavectl.net.transport import connect

if TYPE_CHECKING:
    from enclavectl.gateway.session import Session

# The kernel gives up a connection over vsock after 2 s.
CONNECT_S = 2.0
# What may wait in the kernel for an enclave that does not read: a picture of common size, which then goes
# in one write. `connect` takes twice that, for pictures of our own.
_SEND_BUFFER_BYTES = 512 * 1024


class EnclaveLink(asyncio.Protocol):
    """Hands an enclave's bytes to a session, and the session's to the enclave."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand bytes on."""
        self._session.from_enclave(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the session; it knows whether it ended the link itself."""
        self._session.enclave_lost()

    def pause_writing(self) -> None:
        """Stop the client: the enclave does not take more for now."""
        self._session.enclave_can_write(is_full=True)

    def resume_writing(self) -> None:
        """Let the client go on."""
        self._session.enclave_can_write(is_full=False)

    def send(self, data: bytes) -> None:
        """Send bytes, or keep them until the enclave reads."""
        self._transport.write(data)

    def hold(self, *, is_held: bool) -> None:
        """Stop reading from the enclave, or go on."""
        if is_held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def close(self, last: bytes = b"", code: int = 0) -> None:  # noqa: ARG002 - an enclave takes no codes
        """Send the last bytes and close."""
        if last:
            self.send(last)
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()


async def connect_socket(address: HostAddress, executor: Executor) -> socket.socket:
    """Connect a socket to an enclave, in a thread: `connect` knows every kind of address, and blocks.

    Raises:
        EnclavectlError: nobody answers there.
    """
    loop = asyncio.get_running_loop()
    sock = await loop.run_in_executor(executor, connect, address, CONNECT_S)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return sock


async def connect_link(session: Session, address: HostAddress, executor: Executor) -> EnclaveLink:
    """Connect a session's link.

    Raises:
        EnclavectlError: nobody answers there.
        OSError: the connection broke at once.
    """
    sock = await connect_socket(address, executor)
    try:
        _, link = await asyncio.get_running_loop().create_connection(lambda: EnclaveLink(session), sock=sock)
    except BaseException:
        sock.close()
        raise
    return link
