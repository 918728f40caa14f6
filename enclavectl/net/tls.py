"""TLS toward a gateway: version 1.3 only, with the system's roots, a CA of one's own, or a pinned key.

It hides sizes and times from the network and keeps the token secret. It is not the trust anchor: a gateway
with a perfect certificate is still only a relay, and the policy decides about the enclave behind it.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256

from enclave_payload.wire import Buffer
from enclavectl.errors import EnclavectlError, EnclaveLost, NetworkError, UsageError
from enclavectl.net.access import Access, show_pin
from enclavectl.net.address import NetworkAddress, StreamAddress

FRAMES_ALPN = "enclavectl/1"
_WEB_ALPN = "http/1.1"
_WEB_HINT = "is it a web site, or the wss:// address of the gateway?"
# OpenSSL's x509_vfy.h.
_NOT_YET_VALID, _EXPIRED = 9, 10
_FOREIGN = {62: "another host name", 64: "another address"}
_OWN_ISSUER = {18, 19, 20, 21}


class TlsStream:
    """A TLS connection as a ``ByteStream``: it has no ``sendmsg``, and another error for "would wait"."""

    def __init__(self, sock: ssl.SSLSocket, address: NetworkAddress, *, has_certificate: bool) -> None:
        """Wrap a connection after its handshake; ``has_certificate`` says that we have shown one of ours."""
        self._sock = sock
        self._address = address
        self._has_certificate = has_certificate
        self._has_received = False

    def settimeout(self, value: float | None, /) -> None:
        """Set how many seconds the next calls may wait."""
        self._sock.settimeout(value)

    def sendmsg(self, buffers: Sequence[Buffer], /) -> int:
        """Send of the first buffer that is not empty; a record of TLS holds 16 KiB at most anyway.

        Raises:
            UsageError: as ``recv``.
            EnclaveLost: the peer went right after the handshake.
        """
        try:
            for buffer in buffers:
                if len(buffer):
                    return self._sock.send(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
            raise BlockingIOError from exc
        except OSError as exc:
            if (refusal := self._refusal_in(exc)) is not None:
                raise refusal from exc
            raise
        return 0

    def recv(self, bufsize: int, /) -> bytes:
        """Return at least one byte, or none at the end of the stream.

        Raises:
            UsageError: the peer refuses our certificate, or that there is none. TLS 1.3 reports it here.
            EnclaveLost: the peer went right after the handshake.
        """
        try:
            data = self._sock.recv(bufsize)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
            raise BlockingIOError from exc
        except ssl.SSLEOFError:
            data = b""  # the peer went without a closing alert; frames have lengths of their own
        except OSError as exc:
            if (refusal := self._refusal_in(exc)) is not None:
                raise refusal from exc
            raise
        if not data and self._may_lack_certificate:
            raise self._early_end()
        self._has_received = self._has_received or bool(data)
        return data

    def _refusal_in(self, error: OSError) -> EnclavectlError | None:
        """Return what an error means if it is the peer's refusal of us. Sending may meet it first."""
        if isinstance(error, ConnectionError | ssl.SSLEOFError):
            return self._early_end() if self._may_lack_certificate else None
        reason = _reason(error)
        is_alert = isinstance(error, ssl.SSLError) and _is_about_our_certificate(reason)
        return _client_certificate_refused(self._address, reason) if is_alert else None

    @property
    def _may_lack_certificate(self) -> bool:
        """True while an end may be the peer's refusal of us: it overtakes the alert that would say so."""
        return not self._has_received and not self._has_certificate

    def _early_end(self) -> EnclaveLost:
        return EnclaveLost(
            f"{self._address}: the peer ended the connection right after the TLS handshake",
            hint="it may demand a client's certificate (--client-cert), or have no room",
            code="tls",
        )

    def close(self) -> None:
        """End the connection."""
        self._sock.close()


def start_tls(sock: socket.socket, address: NetworkAddress, access: Access, deadline: float) -> TlsStream:
    """Shake hands on a connected socket, by ``deadline`` on the monotonic clock.

    Nothing of the caller's has been sent when the certificate is judged.

    Raises:
        UsageError: a file of ``access`` cannot be used.
        NetworkError: the peer's certificate or its TLS is not what is expected.
        EnclaveLost: the connection ended, or the deadline passed.
    """
    alpn = FRAMES_ALPN if isinstance(address, StreamAddress) else _WEB_ALPN
    context = _context(access, alpn)
    sock.settimeout(max(deadline - time.monotonic(), 0.001))
    try:
        secure = context.wrap_socket(sock, server_hostname=address.host)
    except (OSError, ValueError) as exc:
        raise _failed(exc, address) from exc
    try:
        _check_pin(secure, address, access)
        _check_alpn(secure, address, alpn)
    except BaseException:
        secure.close()
        raise
    return TlsStream(secure, address, has_certificate=access.client_certificate is not None)


def _context(access: Access, alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([alpn])
    if access.ca_pem is not None:
        try:
            context.load_verify_locations(cadata=access.ca_pem.decode("ascii"))
        except (ssl.SSLError, ValueError) as exc:
            raise UsageError(
                "--ca: expected certificates in PEM, found something else",
                hint="the file begins with -----BEGIN CERTIFICATE-----",
            ) from exc
    elif access.pin is not None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_default_certs()
    if access.client_certificate is not None:
        try:
            # Without a password function OpenSSL itself would ask at the terminal.
            context.load_cert_chain(access.client_certificate, access.client_key, password=lambda: "")
        except (OSError, ValueError) as exc:
            raise UsageError(
                f"--client-cert: {access.client_certificate}: expected a certificate with its key, both in"
                f" PEM and not encrypted ({_reason(exc)})",
                hint="--client-key names the key's file if it is another one",
            ) from exc
    return context


def _check_alpn(secure: ssl.SSLSocket, address: NetworkAddress, wanted: str) -> None:
    # A server of WebSockets need not know the word http/1.1.
    if wanted == FRAMES_ALPN and secure.selected_alpn_protocol() != wanted:
        raise NetworkError(
            f"{address}: expected a gateway's TLS (ALPN {wanted}), found a server of something else",
            hint=_WEB_HINT,
            code="not-a-gateway",
        )


def _check_pin(secure: ssl.SSLSocket, address: NetworkAddress, access: Access) -> None:
    if access.pin is None:
        return
    # Imported here: few addresses have a pin, and this takes longer than the handshake.
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - see above

    der = secure.getpeercert(binary_form=True)
    if der is None:
        raise NetworkError(f"{address}: expected a certificate, found none", code="tls-pin")
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except ValueError as exc:
        raise NetworkError(
            f"{address}: found a certificate that cannot be read ({exc})", code="tls-pin"
        ) from exc
    found = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    if found != access.pin:
        raise NetworkError(
            f"{address}: --tls-pin: expected a key of {show_pin(access.pin)}, found {show_pin(found)}",
            hint="is the traffic inspected, or has the gateway another key? Ask its operator for the new pin",
            code="tls-pin",
        )


def _failed(exc: OSError | ValueError, address: NetworkAddress) -> EnclavectlError:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _bad_certificate(exc, address)
    if isinstance(exc, TimeoutError):
        return EnclaveLost(
            f"{address}: the TLS handshake did not end in time",
            hint="is there a TLS server at this port, and does it have room?",
            code="no-answer",
        )
    reason = _reason(exc)
    if isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(exc, ssl.SSLError):
        return EnclaveLost(
            f"{address}: the peer ended the connection in the TLS handshake ({reason})",
            hint="it may have no room, or demand a client's certificate (--client-cert)",
            code="tls",
        )
    if _is_about_our_certificate(reason):
        return _client_certificate_refused(address, reason)
    if "ALPN" in reason.upper() or "NO_APPLICATION_PROTOCOL" in reason.upper():
        return NetworkError(
            f"{address}: expected a gateway's TLS, found a server of something else ({reason})",
            hint=_WEB_HINT,
            code="not-a-gateway",
        )
    return NetworkError(
        f"{address}: expected TLS 1.3, found something else ({reason})",
        hint="is it the right port? A proxy that inspects TLS may speak 1.2 only",
        code="tls",
    )


def _is_about_our_certificate(reason: str) -> bool:
    return "alert" in reason.lower() and "certificate" in reason.lower()


def _client_certificate_refused(address: NetworkAddress, reason: str) -> UsageError:
    return UsageError(
        f"{address}: the gateway refuses this client's certificate, or that there is none ({reason})",
        hint="--client-cert and --client-key name the certificate that its operator signed",
        code="client-certificate",
    )


def _bad_certificate(exc: ssl.SSLCertVerificationError, address: NetworkAddress) -> NetworkError:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    expected = f"expected a certificate for {address.host} that is valid now"
    number = exc.verify_code
    if number in {_EXPIRED, _NOT_YET_VALID}:
        when, then = (
            ("has expired", "the gateway's operator has to renew the certificate")
            if number == _EXPIRED
            else ("is not valid yet", "ask the gateway's operator when it begins")
        )
        return NetworkError(
            f"{address}: {expected}, found one that {when} by this machine's clock ({now})",
            hint=f"if that is not the time now, set the clock (timedatectl status); if it is, {then}",
            code="tls-expired",
        )
    if number in _FOREIGN:
        return NetworkError(
            f"{address}: {expected}, found one for {_FOREIGN[number]}",
            hint="check the address; --tls-pin accepts a certificate by its key",
            code="tls-foreign",
        )
    if number in _OWN_ISSUER:
        return NetworkError(
            f"{address}: {expected}, found one of an issuer that this machine does not know",
            hint="--ca FILE names its CA, or that of a proxy that inspects TLS; --tls-pin its key",
            code="tls-issuer",
        )
    return NetworkError(
        f"{address}: {expected}, found one that is not ({exc.verify_message})",
        hint="--ca FILE names a CA, --tls-pin the key of a certificate",
        code="tls-certificate",
    )


def _reason(exc: OSError | ValueError) -> str:
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return exc.reason.replace("_", " ").lower()
    return str(getattr(exc, "strerror", None) or exc)
