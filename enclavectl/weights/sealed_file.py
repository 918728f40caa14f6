"""Sealed model files: written by the model's owner, read by whoever starts an enclave."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave_payload.card import ModelCard, model_register
from enclave_payload.cbor import Value
from enclave_payload.sealed import (
    CHECK_BYTES,
    CHUNK_BYTES,
    FILE_ID_BYTES,
    MAGIC,
    MAX_HEADER_BYTES,
    TAG_BYTES,
    SealedError,
    SealedHeader,
    chunk_nonce,
    derive_keys,
    encode_header,
    parse_header,
)
from enclavectl.errors import UsageError
from enclavectl.files import open_regular, stage_file
from enclavectl.models.weights import Model, load_weights
from enclavectl.weights.key_file import ModelKey

SEALED_SUFFIX = ".sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFile:
    """A sealed file whose header keeps the rules, and whose length is the header's."""

    path: Path
    header: SealedHeader
    check: bytes

    @property
    def card(self) -> ModelCard:
        """The card of the model in it."""
        return self.header.card

    @property
    def register(self) -> bytes:
        """PCR16 of an enclave that was offered this file."""
        return model_register(self.header.card.to_json())

    @property
    def owner(self) -> str | None:
        """The hint where the owner's service is."""
        owner = self.header.release.get("owner")
        return owner if isinstance(owner, str) else None

    def chunks(self) -> Iterator[bytes]:
        """Yield the sealed chunks, in order.

        Raises:
            UsageError: the file cannot be read, or was cut since.
        """
        with open_regular(self.path, what="sealed model") as file:
            file.seek(len(MAGIC) + 4 + len(self.header.raw) + CHECK_BYTES)
            for _ in range(self.header.chunks):
                chunk = _read(file, CHUNK_BYTES + TAG_BYTES, self.path)
                if len(chunk) <= TAG_BYTES:
                    raise _broken(self.path, "truncated")
                yield chunk


def seal_model(
    model: Model, to: Path, *, key: bytes, release: Mapping[int | str, Value], file_id: bytes | None = None
) -> tuple[SealedFile, ModelKey]:
    """Write the sealed file of a model to ``to``, under a key of 32 bytes that no other file has.

    Raises:
        UsageError: the weights are not the card's, or the header would be too long.
        HostError: the file cannot be written.
    """
    weights = load_weights(model)
    file_id = os.urandom(FILE_ID_BYTES) if file_id is None else file_id
    draft = SealedHeader(raw=b"", card=model.card, size=len(weights), file_id=file_id, release=dict(release))
    raw = encode_header(draft)
    try:
        header = parse_header(raw)
    except SealedError as exc:
        raise UsageError(
            f"{to}: expected a card and a release of at most {MAX_HEADER_BYTES} bytes, and weights, "
            f"found {len(raw)} bytes and {len(weights)} of weights"
        ) from exc
    chunk_key, check = derive_keys(key, raw)
    with stage_file(to.parent, mode=0o644) as staged:
        staged.file.write(MAGIC + len(raw).to_bytes(4, "big") + raw + check)
        for chunk in seal_chunks(weights, chunk_key):
            staged.file.write(chunk)
        staged.commit(to)
    sealed = SealedFile(path=to, header=header, check=check)
    return sealed, ModelKey(
        model_id=model.card.model_id, file_id=file_id, key=key, register=model_register(model.card.to_json())
    )


def seal_chunks(weights: bytes, chunk_key: bytes) -> Iterator[bytes]:
    """Yield the sealed chunks of the weights; ``CHUNK_BYTES`` of these in each but the last."""
    cipher, view = AESGCM(chunk_key), memoryview(weights)
    for index, start in enumerate(range(0, len(weights), CHUNK_BYTES)):
        nonce = chunk_nonce(index, is_last=start + CHUNK_BYTES >= len(weights))
        yield cipher.encrypt(nonce, view[start : start + CHUNK_BYTES], None)


def read_sealed(path: Path) -> SealedFile:
    """Read a sealed file's header, and compare the file's length with it. The chunks need a key.

    Raises:
        UsageError: it cannot be read, or is no sealed file.
    """
    with open_regular(path, what="sealed model") as file:
        if _read(file, len(MAGIC), path) != MAGIC:
            raise UsageError(
                f"{path}: expected a sealed model, which begins with {MAGIC.decode().strip()!r}",
                hint="enclavectl model seal MODEL --to FILE.sealed writes one",
                code="magic",
            )
        length = int.from_bytes(_read(file, 4, path), "big")
        if not 1 <= length <= MAX_HEADER_BYTES:
            raise _broken(path, "header")
        raw = _read(file, length, path)
        check = _read(file, CHECK_BYTES, path)
        size = os.fstat(file.fileno()).st_size
    try:
        header = parse_header(raw)
    except SealedError as exc:
        raise _broken(path, exc.code) from exc
    if len(check) < CHECK_BYTES:
        raise _broken(path, "truncated")
    expected = len(MAGIC) + 4 + length + CHECK_BYTES + header.size + header.chunks * TAG_BYTES
    if size != expected:
        raise _broken(path, "truncated" if size < expected else "trailing", f": {expected} bytes, not {size}")
    return SealedFile(path=path, header=header, check=check)


def is_sealed_path(name: str) -> bool:
    """Return whether the name of a model means a sealed file."""
    return name.endswith(SEALED_SUFFIX)


def _read(file: BinaryIO, size: int, path: Path) -> bytes:
    try:
        return file.read(size)
    except OSError as exc:
        raise UsageError(f"{path}: cannot read this sealed model ({exc.strerror})") from exc


def _broken(path: Path, code: str, detail: str = "") -> UsageError:
    words = {"header": "a header that keeps the rules", "truncated": "a whole file", "trailing": "its end"}
    return UsageError(
        f"{path}: expected {words[code]}{detail}; the sealed model is damaged or cut",
        hint="fetch it again from the model's owner, who has its length and SHA-256",
        code=code,
    )
