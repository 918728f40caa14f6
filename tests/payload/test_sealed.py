"""The sealed file: the reference's vector, and what breaks it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave_payload.card import MAX_WEIGHTS_BYTES
from enclave_payload.cbor import Encodable, encode
from enclave_payload.sealed import (
    CHUNK_BYTES,
    MAGIC,
    ChunkOpener,
    SealedError,
    SealedHeader,
    chunk_nonce,
    derive_keys,
    encode_header,
    parse_header,
)
from tests.payload.cards import CARD

WEIGHTS = bytes(range(256)) * 257
KEY = bytes(range(32))
FILE_ID = bytes(range(0x80, 0x90))


def header(**changes: object) -> SealedHeader:
    fields: dict[str, object] = {
        "raw": b"", "card": CARD, "size": len(WEIGHTS), "file_id": FILE_ID, "release": {"owner": "direct"},
    }  # fmt: skip
    draft = SealedHeader(**{**fields, **changes})  # type: ignore[arg-type]
    return parse_header(encode_header(draft))


@dataclass
class Sealed:
    header: SealedHeader
    check: bytes
    chunks: list[bytes]


def sealed(weights: bytes = WEIGHTS) -> Sealed:
    made = header(size=len(weights))
    chunk_key, check = derive_keys(KEY, made.raw)
    cipher = AESGCM(chunk_key)
    starts = range(0, len(weights), CHUNK_BYTES)
    chunks = [
        cipher.encrypt(
            chunk_nonce(index, is_last=start == starts[-1]), weights[start : start + CHUNK_BYTES], None
        )
        for index, start in enumerate(starts)
    ]
    return Sealed(made, check, chunks)


def opened(parts: Sealed, key: bytes = KEY) -> bytes:
    """Open all chunks as the release port does: the end of the stream is a chunk of no bytes."""
    opener = ChunkOpener(key, parts.header, parts.check)
    found = [opener.open(chunk) for chunk in parts.chunks]
    if not opener.is_done:
        opener.open(b"")
    return b"".join(found)


def test_the_reference_vector_comes_out_byte_for_byte() -> None:
    # The vector's card is short: parse_card refuses it, so its header is encoded here.
    card = b'{"id":"demo-lesion","sha256":"%s"}' % hashlib.sha256(WEIGHTS).hexdigest().encode()
    raw = encode(
        {
            "version": 1,
            "card": card,
            "size": len(WEIGHTS),
            "chunk": CHUNK_BYTES,
            "file": FILE_ID,
            "release": {"owner": "direct"},
        }
    )
    chunk_key, check = derive_keys(KEY, raw)
    assert check.hex() == "ba80265c83c9493a1f40e5a0511fdc549944272b7c4ec87537cc282eda2ef665"
    assert chunk_key.hex() == "c27cfc42ae3f31a6c4fe9838dd843b2cc4896a67b6efdd31c4af0c0481868014"
    cipher = AESGCM(chunk_key)
    first = cipher.encrypt(chunk_nonce(0, is_last=False), WEIGHTS[:CHUNK_BYTES], None)
    last = cipher.encrypt(chunk_nonce(1, is_last=True), WEIGHTS[CHUNK_BYTES:], None)
    assert first[:16].hex() == "d3d7d8b9137cd53865df17d7fd31221d"
    assert last[-16:].hex() == "971a5032fc6cd2a8f3dfb583948bddb8"
    file = MAGIC + len(raw).to_bytes(4, "big") + raw + check + first + last
    assert len(file) == 66_065
    assert (
        hashlib.sha256(file).hexdigest() == "0d0933201c0e563d33d74bfd28e23910b4c987708461fe82a42e0cfb7d264bee"
    )


@pytest.mark.parametrize("size", [1, 5, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_was_sealed_is_opened(size: int) -> None:
    weights = bytes(size - 1) + b"x"
    assert opened(sealed(weights)) == weights


def flip(data: bytes, bit: int = 0) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1 << bit])


BREAKAGE: dict[str, tuple[Callable[[Sealed], object], str]] = {
    "last byte cut": (lambda s: s.chunks.append(s.chunks.pop()[:-1]), "truncated"),
    "last chunk gone": (lambda s: s.chunks.pop(), "truncated"),
    "chunks swapped": (lambda s: s.chunks.__setitem__(slice(0, 2), [s.chunks[1], s.chunks[0]]), "chunk-0"),
    "chunk 0 twice": (lambda s: s.chunks.__setitem__(1, s.chunks[0]), "chunk-1"),
    "a chunk more": (lambda s: s.chunks.append(b"x"), "trailing"),
    "a bit of a chunk": (lambda s: s.chunks.__setitem__(0, flip(s.chunks[0])), "chunk-0"),
    "a bit of the last chunk": (lambda s: s.chunks.append(flip(s.chunks.pop())), "chunk-2"),
}


@pytest.mark.parametrize("name", BREAKAGE)
def test_each_breakage_has_its_own_code(name: str) -> None:
    parts = sealed(bytes(3 * CHUNK_BYTES))
    breaks, code = BREAKAGE[name]
    breaks(parts)
    with pytest.raises(SealedError) as caught:
        opened(parts)
    assert caught.value.code == code


def test_another_key_and_another_header_are_told_before_a_chunk_is_opened() -> None:
    parts = sealed()
    for key in (flip(KEY), b"", KEY + b"x"):
        with pytest.raises(SealedError, match="wrong-key"):
            opened(parts, key)
    other = header(release={"owner": "direcs"})
    with pytest.raises(SealedError, match="wrong-key"):
        ChunkOpener(KEY, other, parts.check)


def fields() -> dict[str, Encodable]:
    return {
        "version": 1, "card": CARD.to_json(), "size": 5, "chunk": CHUNK_BYTES, "file": FILE_ID, "release": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"chunk": 1024},
        {"size": 0},
        {"size": MAX_WEIGHTS_BYTES + 1},
        {"file": bytes(15)},
        {"card": b"{}"},
        {"card": CARD.to_json() + b" "},
        {"release": []},
        {"release": {"lease_s": 0}},
        {"release": {"lease_s": "24h"}},
        {"release": {"lease_s": True}},
        {"more": 1},
    ],
    ids=str,
)
def test_a_header_that_breaks_a_rule_is_refused(change: dict[str, Encodable]) -> None:
    parse_header(encode(fields()))
    with pytest.raises(SealedError, match="header"):
        parse_header(encode({**fields(), **change}))


def test_a_header_has_one_encoding_and_nothing_behind_it() -> None:
    raw = encode(fields())
    for other in (raw + b"\0", raw[:-1], b"\xb8\x06" + raw[1:], b""):
        with pytest.raises(SealedError, match="header"):
            parse_header(other)


def test_a_lease_of_the_header_is_a_number_of_seconds() -> None:
    assert header(release={"lease_s": 86_400}).lease_s == 86_400
    assert header(release={}).lease_s is None
