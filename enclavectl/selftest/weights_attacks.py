"""Attacks on sealed weights: on the file, and on the card in it. The enclave's own code opens them."""

from __future__ import annotations

import os
from pathlib import Path

from enclave_payload.sealed import ChunkOpener, SealedError
from enclavectl.models.card import read_card
from enclavectl.models.find import PACKAGED_DIR
from enclavectl.selftest.arena import Arena
from enclavectl.selftest.attack import Attack, Defender, attack
from enclavectl.weights.sealed_file import SealedFile, read_sealed, seal_model

_KEY_BYTES = 32


@attack("edited-weights", "one bit of sealed weights", Defender.ENCLAVE, "chunk-0")
def edited_weights(arena: Arena) -> str | None:
    """Change a bit of the weights in a sealed file."""
    key, path = _sealed(arena, "weights")
    first = bytearray(next(read_sealed(path).chunks()))
    first[0] ^= 1
    return _opening(key, read_sealed(path), bytes(first))


@attack("edited-card", "another notice in the card of sealed weights", Defender.ENCLAVE, "wrong-key")
def edited_card(arena: Arena) -> str | None:
    """Change a word of the card in front of sealed weights."""
    key, path = _sealed(arena, "card")
    path.write_bytes(path.read_bytes().replace(b"diagnosis", b"diagnozis", 1))
    sealed = read_sealed(path)
    return _opening(key, sealed, next(sealed.chunks()))


def _sealed(arena: Arena, name: str) -> tuple[bytes, Path]:
    path, key = arena.folder / f"{name}.sealed", os.urandom(_KEY_BYTES)
    seal_model(read_card(PACKAGED_DIR / "model.yaml"), path, key=key, release={})
    return key, path


def _opening(key: bytes, sealed: SealedFile, chunk: bytes) -> str | None:
    """Open the first chunk as the enclave does; the code of its refusal, None if it opened."""
    try:
        ChunkOpener(key, sealed.header, sealed.check).open(chunk)
    except SealedError as error:
        return error.code
    return None


ATTACKS: tuple[Attack, ...] = (edited_weights, edited_card)
