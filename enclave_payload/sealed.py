"""The sealed model file: its header, its two keys, and its chunks. Bytes in, values out.

    magic | u32 header length | header | 32 bytes check | chunks

The header is deterministic CBOR. Each chunk is AES-256-GCM (STREAM, as age has it: a counter and a last flag
in the nonce), so that chunks which are cut off, appended or exchanged do not open. ``check`` commits the file
to its key, which GCM alone does not. docs/protocol.md has the bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from enclave_payload.card import MAX_WEIGHTS_BYTES, CardError, ModelCard, parse_card
from enclave_payload.cbor import CborError, Value, decode, encode

MAGIC = b"enclavectl sealed model v1\n"
# A card (MAX_CARD_BYTES), a KMS blob of up to 6,144 bytes with its context, and room.
MAX_HEADER_BYTES = 80 * 1024
CHECK_BYTES = KEY_BYTES = 32
FILE_ID_BYTES = 16
CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
# A year; whoever means longer leaves the lease out.
MAX_LEASE_S = 366 * 24 * 3600


class SealedError(Exception):
    """The file, or the key, is not what it should be. ``code`` is a short word for what is wrong."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedHeader:
    """A header that keeps the rules. ``raw`` are its bytes, into which the file's keys are bound.

    ``size`` is of the weights in bytes. ``release`` says where a key may come from: the operator's side reads
    it, the enclave only the lease in it.
    """

    raw: bytes = field(repr=False)
    card: ModelCard
    size: int
    file_id: bytes
    release: dict[int | str, Value]

    @property
    def lease_s(self) -> int | None:
        """The lease for a key that KMS released."""
        lease = self.release.get("lease_s")
        return lease if isinstance(lease, int) else None

    @property
    def chunks(self) -> int:
        """How many chunks follow the check."""
        return -(-self.size // CHUNK_BYTES)


def parse_header(raw: bytes) -> SealedHeader:
    """Read a header in its one encoding.

    Raises:
        SealedError: it breaks a rule.
    """
    try:
        value = decode(raw, max_bytes=MAX_HEADER_BYTES)
        match value:
            case {
                "version": 1,
                "card": bytes(card),
                "size": int(size),
                "chunk": 65536,
                "file": bytes(file_id),
                "release": dict(release),
            } if len(file_id) == FILE_ID_BYTES and is_lease(release.get("lease_s")):
                header = SealedHeader(
                    raw=raw, card=parse_card(card), size=size, file_id=file_id, release=release
                )
                # One encoding: with another key in it these would be other bytes.
                if 1 <= size <= MAX_WEIGHTS_BYTES and encode_header(header) == raw:
                    return header
    except (CborError, CardError) as exc:
        raise SealedError("header") from exc
    raise SealedError("header")


def encode_header(header: SealedHeader) -> bytes:
    """Encode the fields of a header, whatever its ``raw``."""
    return encode(
        {
            "version": 1,
            "card": header.card.to_json(),
            "size": header.size,
            "chunk": CHUNK_BYTES,
            "file": header.file_id,
            "release": header.release,
        }
    )


def is_lease(value: Value) -> bool:
    """Return whether this is a number of seconds that a lease may have, or none."""
    return value is None or (type(value) is int and 1 <= value <= MAX_LEASE_S)


def derive_keys(key: bytes, header: bytes) -> tuple[bytes, bytes]:
    """Derive what opens the chunks, and the file's check, from the released key and the header's bytes."""
    salt = hashlib.sha384(header).digest()
    both = HKDF(SHA256(), 64, salt, b"enclavectl sealed model keys v1").derive(key)
    return both[:32], both[32:]


def chunk_nonce(index: int, *, is_last: bool) -> bytes:
    """Return the nonce of a chunk: 11 bytes of counter, and whether it is the last one."""
    return index.to_bytes(11, "big") + bytes([is_last])


class ChunkOpener:
    """Opens a file's chunks, in order."""

    def __init__(self, key: bytes, header: SealedHeader, check: bytes) -> None:
        """Check the key.

        Raises:
            SealedError: it is another file's, or the header was changed.
        """
        if len(key) != KEY_BYTES:
            raise SealedError("wrong-key")
        chunk_key, expected = derive_keys(key, header.raw)
        if not bytes_eq(expected, check):
            raise SealedError("wrong-key")
        self._cipher = AESGCM(chunk_key)
        self._left = header.size
        self._index = 0

    @property
    def is_done(self) -> bool:
        """True once the last chunk was opened."""
        return self._left == 0

    @property
    def next_bytes(self) -> int:
        """The size of the next chunk as it stands in the file; 0 after the last."""
        return self._left and min(self._left, CHUNK_BYTES) + TAG_BYTES

    def open(self, chunk: bytes | memoryview) -> bytes:
        """Open the next chunk.

        Raises:
            SealedError: it is not the next chunk of this file.
        """
        if self.is_done:
            raise SealedError("trailing")
        if len(chunk) != self.next_bytes:
            raise SealedError("truncated")
        nonce = chunk_nonce(self._index, is_last=self._left <= CHUNK_BYTES)
        try:
            opened = self._cipher.decrypt(nonce, chunk, None)
        except InvalidTag as exc:
            raise SealedError(f"chunk-{self._index}") from exc
        self._left -= len(opened)
        self._index += 1
        return opened
