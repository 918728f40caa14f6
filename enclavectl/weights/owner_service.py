"""The owner's service: it waits for relays of operators, and releases to the enclaves behind them."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.errors import EnclavectlError, EnclaveLost, StateError, UsageError
from enclavectl.net.address import Address, StreamAddress, UnixAddress, is_network
from enclavectl.net.frames import FrameStream
from enclavectl.net.server_tls import server_context
from enclavectl.net.stream import ByteStream
from enclavectl.net.tls import FRAMES_ALPN, TlsStream
from enclavectl.net.transport import listen
from enclavectl.weights.key_file import ModelKey
from enclavectl.weights.log import ReleaseLog
from enclavectl.weights.owner import ReleaseTerms, release_key

# One enclave at a time: an exchange takes 50 ms and the network's way.
_EXCHANGE_S = 20.0
_HANDSHAKE_S = 5.0
_BACKLOG = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTls:
    """The service's certificate and key, in PEM. A relay needs no trust, so it is no trust anchor."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Make the context.

        Raises:
            UsageError: they are no certificate with its key.
        """
        return server_context(self.certificate, self.key, [FRAMES_ALPN])


class OwnerListener:
    """Listens for relays. A context manager."""

    def __init__(self, address: Address, tls: ServiceTls | None) -> None:
        """Listen.

        Raises:
            UsageError: the address cannot be listened at, or TLS lacks its files.
            StateError: it is in use.
        """
        self._address = address
        self._context: ssl.SSLContext | None = None
        if isinstance(address, UnixAddress):
            self._listener = listen(address)
            return
        if not isinstance(address, StreamAddress):
            raise UsageError(
                f"--listen: expected tls:HOST:PORT, tcp:127.0.0.1:PORT or unix:PATH, found {address}"
            )
        if address.is_secure != (tls is not None):
            raise UsageError(
                "--listen: expected --cert and --cert-key with tls:, and neither without",
                hint="openssl req -x509 -newkey ec ... makes a certificate; --tls-pin of run pins its key",
            )
        self._context = None if tls is None else tls.context()
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

    def accept(self) -> FrameStream | None:
        """Return the next relay; None for one whose handshake fails.

        Raises:
            HostError: the listener broke.
        """
        sock, _ = self._listener.accept()
        sock.settimeout(_HANDSHAKE_S)
        stream: ByteStream = sock
        if self._context is not None and is_network(self._address):
            try:
                secure = self._context.wrap_socket(sock, server_side=True)
            except (OSError, ValueError):
                sock.close()
                return None
            stream = TlsStream(secure, self._address, has_certificate=True)
        return FrameStream(stream, "the enclave behind the relay", is_remote=True)


def serve_releases(
    listener: OwnerListener,
    key: ModelKey,
    read_terms: Callable[[], ReleaseTerms],
    log: ReleaseLog,
    tell: Callable[[VerifiedEnclave | EnclavectlError], None],
) -> None:
    """Release to one enclave after the other until interrupted; ``tell`` hears of each try.

    ``read_terms`` is asked for each.

    Raises:
        HostError: the log cannot be written: nothing more is released.
    """
    while True:
        stream = listener.accept()
        if stream is None:
            tell(EnclaveLost("a relay came without TLS, or with another protocol", code="tls"))
            continue
        try:
            if not log.admit():
                tell(StateError("too many tries in a minute: one was turned away", code="rate"))
                continue
            tell(release_key(stream, key, read_terms, log, time.monotonic() + _EXCHANGE_S))
        except EnclavectlError as error:
            tell(error)
            if error.code == "log":
                raise
        finally:
            stream.close()
