"""The listening socket, and the opening of each connection: the PROXY header, TLS, then the door."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable

from enclavectl.errors import HostError
from enclavectl.gateway.admission import address_group
from enclavectl.gateway.door import Door
from enclavectl.gateway.gateway import Gateway
from enclavectl.gateway.identity import (
    PROXY_HEADER_BYTES,
    is_trusted,
    proxy_header_length,
    proxy_source,
)
from enclavectl.gateway.openings import Opening
from enclavectl.gateway.settings import GatewaySettings, HostPort
from enclavectl.gateway.tls import ServerTls
from enclavectl.net.carriage import WireError

# The kernel's queue of connections that nobody accepted yet.
_BACKLOG = 512
# After an error of accept() that concerns this process, such as too many open files.
_ACCEPT_PAUSE_S = 0.1


def listen_on(address: HostPort, option: str = "--listen") -> socket.socket:
    """Open a listening socket; ``[::]`` takes IPv4 as well. ``option`` named the address.

    Raises:
        HostError: the address is in use, or is not one of this machine.
    """
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, where = found[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise HostError(f"{option} {address}: cannot listen there ({exc.strerror})") from exc
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(where)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise HostError(
            f"{option} {address}: cannot listen there ({exc.strerror})",
            hint="ports below 1024 need CAP_NET_BIND_SERVICE; `ss -ltnp` shows who listens",
        ) from exc
    return sock


class Listener:
    """Accepts connections until it is closed."""

    def __init__(
        self, sock: socket.socket, gateway: Gateway, settings: GatewaySettings, tls: ServerTls | None
    ) -> None:
        self._sock = sock
        self._gateway = gateway
        self._settings = settings
        self._tls = tls
        self._limits = settings.limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._limits.receive_buffer_bytes)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._sock.getsockname()[1])

    def start(self) -> None:
        """Begin to accept."""
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept no more."""
        if self._accepting is not None:
            self._accepting.cancel()
        self._sock.close()

    async def stop(self) -> None:
        """Accept no more, and give up what is being opened."""
        self.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(self._sock)
            except OSError:
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            self._begin(sock, str(peer[0]))
            # Those that are here say their challenge before more come in, or a burst would push them all out.
            await asyncio.sleep(0)

    def _begin(self, sock: socket.socket, peer: str) -> None:
        task: asyncio.Task[None] | None = None
        door: Door | None = None

        def abort() -> None:
            if door is not None and door.transport is not None:
                door.transport.abort()
            elif task is not None:
                task.cancel()

        opening = self._gateway.openings.enter(address_group(peer), abort, time.monotonic())
        gateway = self._gateway
        door = Door(self._limits, opening, gateway.begin_frames, gateway.decider)
        door.address = peer
        task = asyncio.get_running_loop().create_task(self._open(sock, door, opening))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, sock: socket.socket, door: Door, opening: Opening) -> None:
        """Do what comes before the first byte of HTTP or of a frame; a peer that fails is just closed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.handshake_s):
                if self._settings.needs_proxy_header:
                    door.address = await self._read_proxy_header(sock, door.address)
                    # From here on a client's own address counts, and not the proxy's, which is everybody's.
                    opening.group = address_group(door.address)
                await loop.connect_accepted_socket(
                    lambda: door,
                    sock,
                    ssl=None if self._tls is None else self._tls.context,
                    ssl_handshake_timeout=None if self._tls is None else self._limits.handshake_s,
                    ssl_shutdown_timeout=None if self._tls is None else self._limits.linger_s,
                )
        except (OSError, ssl.SSLError, WireError, TimeoutError):
            opening.leave()
            sock.close()
        except asyncio.CancelledError:
            opening.leave()
            sock.close()
            raise

    async def _read_proxy_header(self, sock: socket.socket, peer: str) -> str:
        """Read a PROXY header, and no byte past it.

        Raises:
            WireError: the peer is no trusted proxy, or sends something else.
        """
        if not is_trusted(peer, self._settings.trusted_proxies):
            raise WireError("only trusted proxies may connect here")
        head = await _read_exactly(sock, PROXY_HEADER_BYTES)
        rest = await _read_exactly(sock, proxy_header_length(head))
        return proxy_source(head, rest) or peer


async def _read_exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        more = await loop.sock_recv(sock, count - len(data))
        if not more:
            raise WireError("the peer closed in the middle of a header")
        data += more
    return data


def bound_tls_buffers(size: int) -> None:
    """Make asyncio's TLS read at most ``size`` bytes at once, in this process.

    It keeps a buffer of its own for each connection, of 256 KiB by default: with 256 connections that is more
    than all else together.
    """
    SSLProtocol.max_size = size


def quiet_loop(note: Callable[[str], None]) -> None:
    """Let asyncio tell of errors by type only: its own reports have peers' addresses."""

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        exception = context.get("exception")
        if not isinstance(exception, OSError | ssl.SSLError | None):
            note(f"unexpected {type(exception).__name__} in a connection")

    asyncio.get_running_loop().set_exception_handler(handle)
