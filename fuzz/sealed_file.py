"""Any bytes are the header of a sealed model, in its one encoding, or are refused with SealedError.

A chunk that was not sealed for its place does not open either.
"""

from __future__ import annotations

from contextlib import suppress

from enclave_payload.card import load_card
from enclave_payload.sealed import (
    ChunkOpener,
    SealedError,
    SealedHeader,
    derive_keys,
    encode_header,
    parse_header,
)
from enclavectl.models.find import PACKAGED_DIR

_CARD = load_card(PACKAGED_DIR)
_KEY = bytes(32)


def _header(release: dict[int | str, object]) -> bytes:
    draft = SealedHeader(raw=b"", card=_CARD, size=5, file_id=bytes(16), release=release)  # type: ignore[arg-type]
    return encode_header(draft)


_GENUINE = parse_header(_header({}))
SEEDS: list[bytes] = [
    _GENUINE.raw,
    _header({"owner": "tls:owner.example:7443", "lease_s": 3600}),
    _header({"kms": {"key": "arn:aws:kms:eu-central-1:1:key/1", "blob": b"b", "context": {"model": "m"}}}),
    b"",
]


def one(data: bytes) -> None:
    with suppress(SealedError):
        header = parse_header(data)
        assert header.raw == data == encode_header(header)
        assert header.lease_s is None or header.lease_s > 0
    opener = ChunkOpener(_KEY, _GENUINE, derive_keys(_KEY, _GENUINE.raw)[1])
    with suppress(SealedError):
        opener.open(data)
        raise AssertionError("nobody sealed this chunk")
