"""The TFLite classifier: one interpreter over the measured weights, in the processes that hold no key."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from enclave_payload.card import MAX_SUM_ERROR, MAX_WEIGHTS_BYTES, ModelCard, load_card, parse_card
from enclave_payload.contents import PARTS_PER_BILLION

try:
    from tflite_runtime.interpreter import Interpreter
except ModuleNotFoundError:  # no wheel for this Python or machine: pyproject.toml installs the successor
    from ai_edge_litert.interpreter import Interpreter

if TYPE_CHECKING:
    from collections.abc import Mapping


class ModelError(Exception):
    """The weights do not fit their card, or the model's outputs are no probabilities."""


class TFLiteClassifier:
    """A TFLite image classifier with a fixed batch of one and softmax outputs. Not thread-safe."""

    def __init__(self, weights: bytes, card: ModelCard) -> None:
        """Load the weights, which ``check_weights`` has passed: the runtime crashes on a damaged model.

        Raises:
            ModelError: they are no TFLite model, or its inputs or outputs are not what the card says.
        """
        self._card = card
        try:
            # One thread: there is a decoder for each core, and other threads would not survive its fork.
            self._interpreter = Interpreter(model_content=weights, num_threads=1)
            self._interpreter.allocate_tensors()
            (source,), (sink,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as exc:  # the last line: not one input and one output
            raise ModelError("expected a TFLite model with one input and one output") from exc
        _require_tensor("input", source, [1, card.height, card.width, 3])
        _require_tensor("output", sink, [1, len(card.labels)])
        self._source, self._sink = source["index"], sink["index"]

    @property
    def card(self) -> ModelCard:
        """The measured card."""
        return self._card

    def classify(self, picture: Image.Image) -> Mapping[str, int]:
        """Return parts per billion by label code, in label order, for an RGB picture of the card's size.

        Raises:
            ModelError: the outputs are not probabilities that add up to about one.
        """
        self._fill_input(picture)
        self._interpreter.invoke()
        outputs = self._interpreter.get_tensor(self._sink)[0].tolist()
        # Not a number is not >= 0, and what is infinite does not add up.
        if not (all(output >= 0 for output in outputs) and abs(sum(outputs) - 1) < MAX_SUM_ERROR):
            raise ModelError("the outputs are not probabilities")
        parts = [min(round(output * PARTS_PER_BILLION), PARTS_PER_BILLION) for output in outputs]
        return {label.code: part for label, part in zip(self._card.labels, parts, strict=True)}

    def _fill_input(self, picture: Image.Image) -> None:
        # Straight into the interpreter's memory. The view must be gone when the interpreter runs.
        tensor: NDArray[np.float32] = self._interpreter.tensor(self._source)()[0]
        np.subtract(np.asarray(picture), np.float32(self._card.mean), out=tensor)
        np.divide(tensor, np.float32(self._card.std), out=tensor)


def load_classifier(folder: Path) -> TFLiteClassifier:
    """Load ``model.tflite``, checked against ``model.json`` in ``folder``.

    Raises:
        CardError: the card is not valid.
        ModelError: the weights are not the card's, or do not fit it.
        OSError: a file is missing.
    """
    card = load_card(folder)
    with (folder / "model.tflite").open("rb") as file:
        weights = file.read(MAX_WEIGHTS_BYTES + 1)
    return make_classifier(card.to_json(), weights)


def make_classifier(card: bytes, weights: bytes) -> TFLiteClassifier:
    """Make a classifier of the bytes of a card and of the weights that it names.

    Raises:
        CardError: the card is not valid.
        ModelError: the weights are not the card's, or do not fit it.
    """
    parsed = parse_card(card)
    check_weights(weights, parsed)
    return TFLiteClassifier(weights, parsed)


def check_weights(weights: bytes, card: ModelCard) -> None:
    """Compare the weights with the SHA-256 that the card names.

    Raises:
        ModelError: their SHA-256 is another.
    """
    found = hashlib.sha256(weights).hexdigest()
    if found != card.sha256:
        raise ModelError(f"weights: the card names SHA-256 {card.sha256}, found {found}")


def _require_tensor(name: str, details: Mapping[str, object], shape: list[int]) -> None:
    found = (list(np.asarray(details["shape"])), details["dtype"])
    if found != (shape, np.float32):
        raise ModelError(f"{name}: the card implies float32 {shape}, the weights have {found[1]} {found[0]}")
