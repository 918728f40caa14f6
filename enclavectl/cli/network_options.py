"""Options of commands that reach an enclave through a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.net.access import MAX_CA_BYTES, NO_ACCESS, Access, read_access
from enclavectl.targets.remotes import RemoteContent

TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="For wss://: the file with the token that the gateway's operator gave you.",
        show_default=False,
    ),
]
ClientCertificate = Annotated[
    Path | None,
    typer.Option(
        "--client-cert",
        metavar="FILE",
        help="For wss:// and tls: your certificate (PEM), where the gateway demands one.",
        show_default=False,
    ),
]
ClientKey = Annotated[
    Path | None,
    typer.Option(
        "--client-key",
        metavar="FILE",
        help="The key of --client-cert (PEM), if it is in another file.",
        show_default=False,
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        help="For wss:// and tls: the CA (PEM) of the gateway's certificate, in place of the system's.",
        show_default=False,
    ),
]
TlsPin = Annotated[
    str | None,
    typer.Option(
        "--tls-pin",
        metavar="sha256:DIGEST",
        help="For wss:// and tls: the only key that the certificate may have (SHA-256 of its SPKI).",
        show_default=False,
    ),
]


def access_of(
    connect: str | None,
    *,
    token_file: Path | None,
    client_cert: Path | None,
    client_key: Path | None,
    ca: Path | None,
    tls_pin: str | None,
) -> Access:
    """Read what the options name; they need ``--connect``.

    Raises:
        UsageError: there is nothing to connect to, or a file cannot be used.
    """
    given = {
        "token-file": token_file,
        "client-cert": client_cert,
        "client-key": client_key,
        "ca": ca,
        "tls-pin": tls_pin,
    }
    named = [f"--{name}" for name, value in given.items() if value is not None]
    if not named:
        return NO_ACCESS
    if connect is None:
        raise UsageError(f"{named[0]}: expected --connect as well: it is for an enclave elsewhere")
    return read_access(
        token_file=token_file, client_certificate=client_cert, client_key=client_key, ca=ca, pin=tls_pin
    )


@dataclass(frozen=True, slots=True)
class AccessFiles:
    """The files that the options name, for commands that keep copies."""

    token: Path | None
    client_certificate: Path | None
    client_key: Path | None
    ca: Path | None

    def parts(self, *, policy: Path | None, root: Path | None) -> dict[str, bytes]:
        """Read them, the policy and the root, by their words in a remote.

        Raises:
            UsageError: one cannot be read.
        """
        named = {
            "policy": policy,
            "root": root,
            "token": self.token,
            "client_certificate": self.client_certificate,
            "client_key": self.client_key,
            "ca": self.ca,
        }
        return {
            word: read_bounded(path, MAX_CA_BYTES, what=word.replace("_", " "))
            for word, path in named.items()
            if path is not None
        }

    def added_to(
        self,
        content: RemoteContent,
        *,
        policy: Path | None = None,
        root: Path | None = None,
        pin: str | None = None,
    ) -> RemoteContent:
        """Return the content with what is given here in place of its own.

        Raises:
            UsageError: a file cannot be read or used.
        """
        parts = {**content.copies(), **self.parts(policy=policy, root=root)}
        return RemoteContent(address=content.address, pin=pin or content.pin, **parts)
