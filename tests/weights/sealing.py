"""A sealed model of CARD's own: the card's hash is changed to that of the weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from enclave_payload.cbor import Value
from enclavectl.models.weights import Model
from enclavectl.weights.key_file import ModelKey
from enclavectl.weights.sealed_file import SealedFile, seal_model
from tests.payload.cards import CARD

WEIGHTS = bytes(range(256)) * 700
KEY = bytes(range(32))
SEALED_CARD = replace(CARD, sha256=hashlib.sha256(WEIGHTS).hexdigest())


def model_in(folder: Path, weights: bytes = WEIGHTS) -> Model:
    path = folder / "model.tflite"
    path.write_bytes(weights)
    card = replace(CARD, sha256=hashlib.sha256(weights).hexdigest())
    return Model(card=card, card_path=folder / "model.yaml", weights_path=path)


def sealed_in(
    folder: Path, *, release: dict[int | str, Value] | None = None, file_id: bytes | None = None
) -> tuple[SealedFile, ModelKey]:
    folder.mkdir(exist_ok=True)
    return seal_model(model_in(folder), folder / "m.sealed", key=KEY, release=release or {}, file_id=file_id)
