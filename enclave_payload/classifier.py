"""The TFLite classifier: one interpreter over the measured weights, in the processes that hold no key."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from enclave_payload.card import MAX_WEIGHTS_BYTES, Layout, ModelCard, load_card, parse_card
from enclave_payload.filling import make_fill
from enclave_payload.scores import Quantization, ScoreError, reader

__all__ = [
    "Interpreter",
    "ModelError",
    "TFLiteClassifier",
    "check_weights",
    "make_classifier",
    "quantization_of",
    "read_model",
]

try:
    from tflite_runtime.interpreter import Interpreter
except ModuleNotFoundError:  # another Python or machine, or an image with the faster successor
    from ai_edge_litert.interpreter import Interpreter

if TYPE_CHECKING:
    from collections.abc import Mapping

# Of the runtime's message: the first line has the reason, and nothing of a picture.
_MAX_WORDS = 200
# The least value of the types with 8 bits.
_LEAST = {np.dtype(np.uint8): 0, np.dtype(np.int8): -128}


class ModelError(Exception):
    """The weights do not fit their card, or the model's outputs are no probabilities."""


class TFLiteClassifier:
    """A TFLite image classifier with a batch of one. Not thread-safe."""

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
        except (ValueError, RuntimeError) as exc:
            words = (str(exc).splitlines() or ["no reason given"])[0][:_MAX_WORDS]
            raise ModelError(f"cannot load: {words}") from exc
        sources, sinks = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if (len(sources), len(sinks)) != (1, 1):
            raise ModelError(f"{len(sources)} inputs and {len(sinks)} outputs: one of each is served")
        _require_input(sources[0], card)
        _require_output(sinks[0], card)
        self._source, self._sink = sources[0]["index"], sinks[0]["index"]
        self._fill = make_fill(card.input, sources[0]["dtype"], quantization_of("input", sources[0]))
        self._read = reader(card.output.scores, quantization_of("output", sinks[0]))

    @property
    def card(self) -> ModelCard:
        """The measured card."""
        return self._card

    def classify(self, picture: Image.Image) -> list[int]:
        """Return parts per billion in label order, for an RGB picture of the card's size.

        Raises:
            ModelError: the outputs are no probabilities, and no logits that give some.
        """
        # The view of the interpreter's memory must be gone when the interpreter runs.
        tensor = self._interpreter.tensor(self._source)()[0]
        self._fill(tensor, np.asarray(picture))
        del tensor
        self._interpreter.invoke()
        outputs = self._interpreter.get_tensor(self._sink)
        try:
            return self._read(outputs.ravel().tolist())
        except ScoreError as exc:
            raise ModelError(str(exc)) from exc


def read_model(folder: Path) -> tuple[bytes, bytes]:
    """Read the card and the weights in ``folder``; what is cut off does not fit the card's hash.

    Raises:
        CardError: the card is not valid.
        OSError: a file is missing.
    """
    card = load_card(folder)
    with (folder / "model.tflite").open("rb") as file:
        return card.to_json(), file.read(MAX_WEIGHTS_BYTES + 1)


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


def _require_input(details: Mapping[str, Any], card: ModelCard) -> None:
    height, width = card.input.height, card.input.width
    sides = (3, height, width) if card.input.layout is Layout.NCHW else (height, width, 3)
    found = _sides(details)
    if found != [1, *sides]:
        other = "nhwc" if card.input.layout is Layout.NCHW else "nchw"
        is_turned = sorted(found) == sorted([1, *sides])
        raise ModelError(
            f"input: the card implies {_times([1, *sides])}, the weights have {_times(found)}"
            + (f" (layout: {other}?)" if is_turned else "")
        )
    if np.dtype(details["dtype"]) not in {np.dtype(np.float32), *_LEAST}:
        raise ModelError(f"input type {_type(details)}: float32, uint8 and int8 are served")


def _require_output(details: Mapping[str, Any], card: ModelCard) -> None:
    found, labels = _sides(details), len(card.labels)
    inner = [side for side in found if side != 1]
    if len(inner) > 1:
        raise ModelError(f"output {_times(found)}: no classifier (segmentation?)")
    count = inner[0] if inner else 1
    if count != labels:
        hint = " (a background label first?)" if count == labels + 1 else ""
        raise ModelError(f"output has {count} values, the card {labels} labels{hint}")
    if np.dtype(details["dtype"]) not in {np.dtype(np.float32), *_LEAST}:
        raise ModelError(f"output type {_type(details)}: float32, uint8 and int8 are served")


def quantization_of(what: str, details: Mapping[str, Any]) -> Quantization | None:
    """Return the quantization of a tensor of 8 bits, None for float32.

    Raises:
        ModelError: it has none, or one for each channel.
    """
    dtype = np.dtype(details["dtype"])
    if dtype not in _LEAST:
        return None
    scale, zero_point = details["quantization"]
    if not (np.isfinite(scale) and scale > 0):
        raise ModelError(f"{what}: {dtype} without one scale for all its values")
    return Quantization(Fraction(float(scale)), int(zero_point), _LEAST[dtype])


def _sides(details: Mapping[str, Any]) -> list[int]:
    return [int(side) for side in details["shape"]]


def _times(sides: list[int]) -> str:
    return " x ".join(map(str, sides)) or "one number"


def _type(details: Mapping[str, Any]) -> str:
    return np.dtype(details["dtype"]).name
