"""The owner's service: it waits for relays of operators, and releases to the enclaves behind them.

Who connects is nobody until its evidence has passed. So each relay has a thread, and none waits for another.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.errors import EnclavectlError, EnclaveLost, HostError, StateError, UsageError
from enclavectl.net.address import Address, StreamAddress, UnixAddress, is_network
from enclavectl.net.frames import FrameStream
from enclavectl.net.server_tls import server_context
from enclavectl.net.stream import ByteStream
from enclavectl.net.tls import FRAMES_ALPN, TlsStream
from enclavectl.net.transport import listen
from enclavectl.weights.key_file import ModelKey
from enclavectl.weights.log import ReleaseLog
from enclavectl.weights.owner import ReleaseTerms, release_key

# An exchange takes 50 ms and the network's way.
_EXCHANGE_S = 20.0
_HANDSHAKE_S = 5.0
# Exchanges at once: a fleet that restarts comes in dozens. More threads than this only wait.
_AT_ONCE = 32
# One that gave way may still wait for the log or the terminal; who comes when there are so many is closed.
# Below TasksMax of the unit (deploy.release_unit), where starting another would end the service.
MAX_THREADS = 56
# How soon a log that cannot be written ends the service.
_LOOK_S = 0.5
# After an error of accept() that concerns this process, such as too many open files.
_PAUSE_S = 0.1
_BACKLOG = 64


def service_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Make the service's context. A relay needs no trust, so the certificate is no trust anchor.

    Raises:
        UsageError: they are no certificate with its key, in PEM.
    """
    return server_context(certificate, key, [FRAMES_ALPN])


class OwnerListener:
    """Listens for relays. A context manager."""

    def __init__(self, address: Address, context: ssl.SSLContext | None) -> None:
        """Listen, with TLS by ``context``.

        Raises:
            UsageError: the address cannot be listened at, or it is one of TLS and ``context`` is None.
            StateError: it is in use.
        """
        self._address = address
        self._context = context
        if isinstance(address, UnixAddress):
            self._listener = listen(address)
            return
        if not isinstance(address, StreamAddress):
            raise UsageError(
                f"--listen: expected tls:HOST:PORT, tcp:127.0.0.1:PORT or unix:PATH, found {address}"
            )
        if address.is_secure != (context is not None):
            raise UsageError(
                "--listen: expected --cert and --cert-key with tls:, and neither without",
                hint="openssl req -x509 -newkey ec ... makes a certificate; --tls-pin of run pins its key",
            )
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            self._listener = socket.create_server(
                (address.host, address.port),
                family=family,
                backlog=_BACKLOG,
                # All addresses of this machine, those of IPv4 as well.
                dualstack_ipv6=address.host == "::" and socket.has_dualstack_ipv6(),
            )
        except OSError as exc:
            raise StateError(f"{address}: cannot listen there ({exc.strerror or exc})") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        if isinstance(self._address, UnixAddress):
            self._address.path.unlink(missing_ok=True)

    @property
    def port(self) -> int | None:
        """The TCP port that it has; None for a Unix socket."""
        return None if self._listener.family == socket.AF_UNIX else int(self._listener.getsockname()[1])

    def accept(self) -> socket.socket | None:
        """Return the next relay's connection; None if none came within ``_LOOK_S``."""
        self._listener.settimeout(_LOOK_S)
        try:
            sock, _ = self._listener.accept()
        except TimeoutError:
            return None
        except OSError:
            time.sleep(_PAUSE_S)
            return None
        sock.settimeout(_HANDSHAKE_S)
        return sock

    def secure(self, sock: socket.socket) -> FrameStream | None:
        """Return the relay of a connection, after TLS if this listener has it; None if that fails."""
        stream: ByteStream = sock
        if self._context is not None and is_network(self._address):
            try:
                secure = self._context.wrap_socket(sock, server_side=True)
            except (OSError, ValueError):
                sock.close()
                return None
            stream = TlsStream(secure, self._address, has_certificate=True)
        return FrameStream(stream, "the enclave behind the relay", is_remote=True)


class _Exchanges:
    """The exchanges under way, each in a thread. Over the bound the oldest gives way.

    An honest one is over in milliseconds, so the oldest is that of a peer that says nothing.
    """

    def __init__(self, exchange: Callable[[socket.socket], None]) -> None:
        """``exchange`` does one, and closes its connection."""
        self._exchange = exchange
        self._lock = threading.Lock()
        # Handles of their own: TLS takes the connection's descriptor over.
        self._handles: dict[socket.socket, None] = {}
        self.failure: HostError | None = None

    def begin(self, sock: socket.socket) -> None:
        """Begin one, or close its connection where this process has no room for it."""
        handle = None
        if threading.active_count() < MAX_THREADS:
            with suppress(OSError):  # too many open files
                handle = sock.dup()
        if handle is None:
            sock.close()
            time.sleep(_PAUSE_S)
            return
        with self._lock:
            if len(self._handles) >= _AT_ONCE:
                oldest = next(iter(self._handles))
                del self._handles[oldest]
                with suppress(OSError):  # its peer was faster
                    oldest.shutdown(socket.SHUT_RDWR)
            self._handles[handle] = None
        threading.Thread(target=self._run, args=(sock, handle), daemon=True).start()

    def _run(self, sock: socket.socket, handle: socket.socket) -> None:
        try:
            self._exchange(sock)
        except HostError as error:
            self.failure = error
        finally:
            with self._lock:
                self._handles.pop(handle, None)
                handle.close()


def serve_releases(
    listener: OwnerListener,
    key: ModelKey,
    read_terms: Callable[[], ReleaseTerms],
    log: ReleaseLog,
    tell: Callable[[VerifiedEnclave | EnclavectlError], None],
) -> None:
    """Release to the enclaves behind all who connect, until interrupted; ``tell`` hears of each try.

    ``read_terms`` is asked for each.

    Raises:
        HostError: the log cannot be written: nothing more is released.
    """
    telling = threading.Lock()

    def tell_one(what: VerifiedEnclave | EnclavectlError) -> None:
        with telling:
            tell(what)

    def exchange(sock: socket.socket) -> None:
        what: VerifiedEnclave | EnclavectlError
        stream = listener.secure(sock)
        if stream is None:
            what = EnclaveLost("a relay came without TLS, or with another protocol", code="tls")
        else:
            try:
                what = release_key(stream, key, read_terms, log, time.monotonic() + _EXCHANGE_S)
            except EnclavectlError as error:
                what = error
            finally:
                stream.close()
        tell_one(what)
        if isinstance(what, HostError) and what.code == "log":
            raise what

    exchanges = _Exchanges(exchange)
    while exchanges.failure is None:
        sock = listener.accept()
        if sock is not None:
            exchanges.begin(sock)
    raise exchanges.failure
