"""Options of commands that reach an enclave through a gateway."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.net.access import MAX_CA_BYTES, NO_ACCESS, Access, read_access

if TYPE_CHECKING:
    from enclavectl.targets.remotes import RemoteContent

TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="For wss://: the file with the token that the gateway's operator gave you.",
    ),
]
ClientCertificate = Annotated[
    Path | None,
    typer.Option(
        "--client-cert",
        metavar="FILE",
        help="For wss:// and tls: your certificate (PEM), where the gateway demands one.",
    ),
]
ClientKey = Annotated[
    Path | None,
    typer.Option(
        "--client-key", metavar="FILE", help="The key of --client-cert (PEM), if it is in another file."
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        help="For wss:// and tls: the CA (PEM) of the gateway's certificate, in place of the system's.",
    ),
]
TlsPin = Annotated[
    str | None,
    typer.Option(
        "--tls-pin",
        metavar="sha256:DIGEST",
        help="For wss:// and tls: the only key that the certificate may have (SHA-256 of its SPKI).",
    ),
]


@dataclass(frozen=True, slots=True)
class NetworkFlags:
    """The values of the options of this module, as a command line has them."""

    token_file: TokenFile = None
    client_cert: ClientCertificate = None
    client_key: ClientKey = None
    ca: CaFile = None
    tls_pin: TlsPin = None

    @property
    def files(self) -> tuple[Path | None, ...]:
        """The files that these options name, None for each that was not given."""
        return self.token_file, self.client_cert, self.client_key, self.ca

    def read(self, connect: str | None, *, needs: str = "--connect as well") -> Access:
        """Read the files; they need an address, ``connect``. ``needs`` says how the command takes it.

        Raises:
            UsageError: there is nothing to connect to, or a file cannot be used.
        """
        given = [one.name for one in fields(self) if getattr(self, one.name) is not None]
        if not given:
            return NO_ACCESS
        if connect is None:
            option = given[0].replace("_", "-")
            raise UsageError(f"--{option}: expected {needs}: it is for what is elsewhere")
        return read_access(
            token_file=self.token_file,
            client_certificate=self.client_cert,
            client_key=self.client_key,
            ca=self.ca,
            pin=self.tls_pin,
        )

    def parts(self, *, policy: Path | None, root: Path | None) -> dict[str, bytes]:
        """Read the files, the policy and the root, by their words in a remote.

        Raises:
            UsageError: one cannot be read.
        """
        named = {
            "policy": policy,
            "root": root,
            "token": self.token_file,
            "client_certificate": self.client_cert,
            "client_key": self.client_key,
            "ca": self.ca,
        }
        return {
            word: read_bounded(path, MAX_CA_BYTES, what=word.replace("_", " "))
            for word, path in named.items()
            if path is not None
        }

    def content(self, address: str, *, policy: Path, root: Path | None) -> RemoteContent:
        """Return a remote's content of these files.

        Raises:
            UsageError: a file cannot be read or used.
        """
        # Only the commands that keep a remote need its content.
        from enclavectl.targets.remotes import RemoteContent  # noqa: PLC0415 - see above

        return RemoteContent(address=address, pin=self.tls_pin, **self.parts(policy=policy, root=root))

    def added_to(
        self,
        content: RemoteContent,
        *,
        address: str | None = None,
        policy: Path | None = None,
        root: Path | None = None,
    ) -> RemoteContent:
        """Return the content with what is given here in place of its own.

        Raises:
            UsageError: a file cannot be read or used.
        """
        from enclavectl.targets.remotes import RemoteContent  # noqa: PLC0415 - as in ``content``

        parts = {**content.copies(), **self.parts(policy=policy, root=root)}
        pin = self.tls_pin or content.pin
        return RemoteContent(address=address or content.address, pin=pin, **parts)


# A parameter's default.
NO_NETWORK = NetworkFlags()
