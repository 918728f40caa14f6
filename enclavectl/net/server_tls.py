"""TLS of the servers: the gateway's, and that of the model owner's service."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from enclavectl.errors import UsageError


def server_context(certificate: Path, key: Path, alpn: Sequence[str]) -> ssl.SSLContext:
    """Make a context with a certificate chain and its key, both in PEM.

    Raises:
        UsageError: they are no chain with its key, or the key has a passphrase.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # 1.3 has no renegotiation, no compression and no weak suites to switch off.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(alpn)
    try:
        # Without a password function OpenSSL asks at the terminal, and everybody's sessions wait.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as exc:
        raise UsageError(
            f"{certificate}, {key}: expected a certificate chain and its key in PEM ({exc})",
            hint="the key may have no passphrase, and must be the certificate's",
        ) from exc
    return context
