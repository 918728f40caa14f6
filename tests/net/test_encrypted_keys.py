"""Services whose key has a passphrase: nobody is at a terminal to type it, and no prompt may stop them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from enclavectl.errors import UsageError
from enclavectl.gateway.tls import ServerTls
from enclavectl.weights.owner_service import service_context
from tests.net.certificates import Authority


@pytest.mark.parametrize(
    "read",
    [
        lambda certificate, key: ServerTls(certificate, key, None),
        service_context,
    ],
    ids=["gateway", "owner"],
)
def test_a_key_with_a_passphrase_is_refused_without_a_prompt(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], read: Callable[[Path, Path], object]
) -> None:
    pair = Authority(tmp_path).issue("localhost")
    key = load_pem_private_key(pair.key.read_bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    pair.key.write_bytes(encrypted)
    with pytest.raises(UsageError) as caught:
        read(pair.certificate, pair.key)
    assert caught.value.hint is not None
    assert "no passphrase" in caught.value.hint
    assert capfd.readouterr().err == ""
