"""A gateway that refuses a client after the handshake: whatever call meets it, the error says so."""

from __future__ import annotations

import ssl
from typing import cast

import pytest

from enclavectl.errors import EnclavectlError
from enclavectl.net.address import StreamAddress
from enclavectl.net.tls import TlsStream

ADDRESS = StreamAddress("gateway.test", 1, is_secure=True)


class EndedSocket:
    """A TLS connection whose peer has gone, as each of its calls says."""

    def __init__(self, error: OSError) -> None:
        self._error = error

    def send(self, _data: bytes) -> int:
        raise self._error

    def recv(self, _size: int) -> bytes:
        raise self._error


def alert() -> ssl.SSLError:
    error = ssl.SSLError(1, "alert")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    return error


@pytest.mark.parametrize("is_sending", [True, False])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "tls"),
        (BrokenPipeError(), "tls"),
        (ConnectionResetError(), "tls"),
        (alert(), "client-certificate"),
    ],
)
def test_a_refusal_is_known_in_each_direction(error: OSError, code: str, is_sending: bool) -> None:
    stream = TlsStream(cast("ssl.SSLSocket", EndedSocket(error)), ADDRESS, has_certificate=False)
    with pytest.raises(EnclavectlError) as caught:
        stream.sendmsg([b"challenge"]) if is_sending else stream.recv(1)
    assert caught.value.code == code
    assert "--client-cert" in str(caught.value.hint)
