"""A model: its card, the path of its weights, and a checked reader of the weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from enclave_payload.card import MAX_WEIGHTS_BYTES, ModelCard
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as a backend needs it. Only ``load_weights`` checks the weights."""

    card: ModelCard
    card_path: Path
    weights_path: Path


def load_weights(model: Model) -> bytes:
    """Read the weights and check their SHA-256 against the card.

    Raises:
        UsageError: the file is missing, longer than 64 MiB, or not the one that the card describes.
    """
    weights = read_bounded(model.weights_path, MAX_WEIGHTS_BYTES, what="weights file")
    found = hashlib.sha256(weights).hexdigest()
    if found != model.card.sha256:
        raise UsageError(
            f"{model.weights_path}: expected SHA-256 {model.card.sha256} ({model.card_path}), found {found}",
            hint="if you replaced the weights on purpose, write their SHA-256 into the card",
        )
    return weights
