"""The gateway's own TLS: 1.3, with the operator's certificate. It is no trust anchor for anybody.

It hides metadata from the network and lets proxies know the gateway. A client trusts evidence alone.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.net.server_tls import server_context

ALPN = "enclavectl/1"


class ServerTls:
    """A context whose certificate and clients' CA are read again when their files change."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """Read the files.

        Raises:
            UsageError: they are no certificate with its key.
        """
        self._files = (certificate, key)
        self._client_ca = client_ca
        self.context = self._new_context()
        self._stamp = self._stamp_now()

    def reload_if_changed(self) -> bool:
        """Read the files if they changed; return whether they did. New connections get the new certificate.

        Raises:
            UsageError: they are no certificate with its key; the old one stays in use.
        """
        if (stamp := self._stamp_now()) == self._stamp:
            return False
        self._stamp = stamp
        self.reload()
        return True

    def reload(self) -> None:
        """Read the files.

        Raises:
            UsageError: they are no certificate with its key; the old one stays in use.
        """
        # First into a context of its own: a chain without its key would break the one in use.
        self.context = self._new_context()

    def _new_context(self) -> ssl.SSLContext:
        context = server_context(*self._files, [ALPN, "http/1.1"])
        # Each ticket costs a write after the handshake; a client reconnects rarely.
        context.num_tickets = 1
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except (OSError, ValueError) as exc:
                raise UsageError(
                    f"--client-ca {self._client_ca}: expected certificates in PEM ({exc})"
                ) from exc
            # Optional, so that a load balancer may ask for health; the gateway asks for a name afterwards.
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _stamp_now(self) -> tuple[object, ...]:
        stamps: list[object] = []
        for path in (*self._files, *([] if self._client_ca is None else [self._client_ca])):
            try:
                found = path.stat()
                stamps.append((found.st_mtime_ns, found.st_ino, found.st_size))
            except OSError:
                stamps.append(None)
        return tuple(stamps)
