"""What a client brings to a gateway: a token or a certificate, and what it demands of the gateway's TLS.

None of this decides whether an enclave is trusted: that is the policy's matter. It lets the client in, and
keeps what a gateway learns (addresses, times, sizes) from the network before it.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.net.address import Address, WebSocketAddress, is_network

# What fits in a header line of every proxy (8 KiB in nginx, with other headers in it).
_MAX_TOKEN_CHARACTERS = 4096
# RFC 6750, section 2.1: b64token.
_TOKEN = re.compile(rf"[A-Za-z0-9._~+/-]{{1,{_MAX_TOKEN_CHARACTERS}}}=*")
# A bundle of every public root has about 250 KiB.
MAX_CA_BYTES = 1024 * 1024
_PIN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to get through to a gateway. ``token`` is a secret.

    ``ca_pem`` replaces the roots of the system. ``pin`` is the SHA-256 of the public key (SPKI, DER) in the
    gateway's certificate; without ``ca_pem`` it replaces every other check of the certificate.
    """

    token: str | None = field(default=None, repr=False)
    client_certificate: Path | None = None
    client_key: Path | None = None
    ca_pem: bytes | None = field(default=None, repr=False)
    pin: bytes | None = None

    def require_use(self, address: Address) -> None:
        """Check that the address has a use for everything that is here.

        Raises:
            UsageError: it would be ignored.
        """
        if self.token is not None and not isinstance(address, WebSocketAddress):
            raise UsageError(
                f"--token-file: expected an address that takes a token (wss://), found {address}",
                hint="tls: takes a client's certificate: --client-cert and --client-key",
            )
        of_tls = (self.client_certificate, self.client_key, self.ca_pem, self.pin)
        if any(one is not None for one in of_tls) and not (is_network(address) and address.is_secure):
            raise UsageError(
                f"expected an address with TLS (wss:// or tls:) beside --client-cert, --client-key, --ca and"
                f" --tls-pin, found {address}",
                hint="leave them out",
            )


NO_ACCESS = Access()


def read_access(
    *,
    token_file: Path | None = None,
    client_certificate: Path | None = None,
    client_key: Path | None = None,
    ca: Path | None = None,
    pin: str | None = None,
) -> Access:
    """Read the files that a command line names.

    Raises:
        UsageError: one cannot be read or holds something else, or a key is without its certificate.
    """
    if client_key is not None and client_certificate is None:
        raise UsageError("--client-key: expected --client-cert as well")
    return Access(
        token=None if token_file is None else read_token(token_file),
        client_certificate=client_certificate,
        client_key=client_key,
        ca_pem=None if ca is None else read_bounded(ca, MAX_CA_BYTES, what="CA file"),
        pin=None if pin is None else parse_pin(pin),
    )


def read_token(path: Path) -> str:
    """Read the one token in a file; white space around it does not count.

    Raises:
        UsageError: it cannot be read, or is no token. The message does not repeat what was found.
    """
    data = read_bounded(
        path,
        2 * _MAX_TOKEN_CHARACTERS,
        what="token file",
        hint_if_missing="the gateway's operator gives you a token: put it into a file of your own",
    )
    return parse_token(data, source=str(path))


def parse_token(data: bytes, *, source: str) -> str:
    """Read a token from the bytes of a file.

    Raises:
        UsageError: it is no token. The message does not repeat what was found.
    """
    text = data.decode(errors="replace").strip()
    if _TOKEN.fullmatch(text) is None:
        raise UsageError(
            f"{source}: expected one token (letters, digits and . _ ~ + / - =), found something else",
            hint="put the token that the gateway's operator gave you into the file, and nothing else",
        )
    return text


def parse_pin(text: str) -> bytes:
    """Read ``sha256:`` and a digest in hex or base64.

    Raises:
        UsageError: the text is neither.
    """
    kind, _, digest = text.partition(":")
    if kind == "sha256":
        if re.fullmatch(r"[0-9A-Fa-f]{64}", digest):
            return bytes.fromhex(digest)
        if re.fullmatch(r"[A-Za-z0-9+/]{43}=?", digest):
            return base64.b64decode(digest.rstrip("=") + "=")
    raise UsageError(
        f"--tls-pin: expected sha256: and {_PIN_BYTES} bytes in hex or base64, found {text!r:.100}",
        hint="the SHA-256 of the public key (SPKI) in the gateway's certificate; its operator has it",
    )


def show_pin(pin: bytes) -> str:
    """Write a pin as ``parse_pin`` reads it."""
    return f"sha256:{pin.hex()}"
