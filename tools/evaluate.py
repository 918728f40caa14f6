"""Measures a classifier file on freshly drawn pictures, in the runtime that the caller brings.

    python -m tools.evaluate --pictures 100

prints the accuracy and the confusion matrix of the committed demonstration model in the project's own
runtime, so that anybody can check the numbers in its card.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from tools.lesions import KINDS, draw

SIDE = 224
MEAN = STD = 127.5
HELD_OUT = 1_000_000  # held-out seeds start here; training seeds start at 0 and never come this far
MODEL = Path(__file__).parents[1] / "enclave_payload" / "model" / "model.tflite"

Floats = npt.NDArray[np.float32]
Predict = Callable[[Floats], Floats]


class Interpreter(Protocol):
    """What the TFLite runtimes have in common, as far as it is used here."""

    def allocate_tensors(self) -> None:
        """Memory is reserved; harmless when repeated."""

    def get_input_details(self) -> list[dict[str, object]]:
        """List the inputs, each with its index, shape and type."""

    def get_output_details(self) -> list[dict[str, object]]:
        """List the outputs, described like the inputs."""

    def set_tensor(self, index: object, value: Floats) -> None:
        """Set the input with this index."""

    def invoke(self) -> None:
        """Run the model on the inputs."""

    def get_tensor(self, index: object) -> Floats:
        """Copy the output with this index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """``confusion[i][j]`` counts the pictures of kind i that the model calls kind j."""

    confusion: tuple[tuple[int, ...], ...]

    @property
    def pictures(self) -> int:
        """How many were classified."""
        return sum(map(sum, self.confusion))

    @property
    def accuracy(self) -> float:
        """The share that the model names correctly."""
        return sum(row[index] for index, row in enumerate(self.confusion)) / self.pictures

    @property
    def recall(self) -> dict[str, float]:
        """Of each kind that was shown, the share that the model names correctly."""
        return {
            kind: row[index] / sum(row)
            for index, (kind, row) in enumerate(zip(KINDS, self.confusion, strict=True))
            if sum(row)
        }


def prepare(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Turn the picture upright, convert it to RGB and squash it to the model's square: 224x224x3 bytes."""
    upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(upright.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def normalize(pixels: npt.NDArray[np.uint8] | Floats) -> Floats:
    """Pixel values of 0 to 255 to the range from -1 to 1 that the model was trained on."""
    return (pixels.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)


def predictor(interpreter: Interpreter) -> Predict:
    """Make a function from one prepared and normalized picture to the probabilities of the kinds."""
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    exit_ = interpreter.get_output_details()[0]["index"]

    def predict(pixels: Floats) -> Floats:
        interpreter.set_tensor(entry, pixels[np.newaxis])
        interpreter.invoke()
        answer: Floats = interpreter.get_tensor(exit_)[0]
        return answer

    return predict


def classify(predict: Predict, image: Image.Image) -> dict[str, float]:
    """Return the probability of each kind."""
    return dict(zip(KINDS, predict(normalize(prepare(image))).tolist(), strict=True))


def evaluate(predict: Predict, seeds: Iterable[int]) -> Evaluation:
    """Draw one picture of every kind for each seed, and count what the model calls them."""
    confusion = np.zeros((len(KINDS), len(KINDS)), int)
    for seed in seeds:
        for truth, kind in enumerate(KINDS):
            confusion[truth, int(np.argmax(predict(normalize(prepare(draw(kind, seed))))))] += 1
    return Evaluation(confusion=tuple(tuple(map(int, row)) for row in confusion))


def as_mapping(result: Evaluation) -> Mapping[str, object]:
    """Return the measurement in the card's form."""
    return {
        "pictures": result.pictures,
        "accuracy": round(result.accuracy, 4),
        "recall": {kind: round(value, 4) for kind, value in result.recall.items()},
        "confusion_matrix": [list(row) for row in result.confusion],
    }


def open_interpreter(path: Path) -> Interpreter:
    """Load the model into this environment's TFLite runtime, on one thread."""
    try:
        from tflite_runtime.interpreter import Interpreter as Runtime
    except ImportError:
        from ai_edge_litert.interpreter import Interpreter as Runtime
    interpreter: Interpreter = Runtime(model_path=str(path), num_threads=1)
    return interpreter


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure the demonstration model on held-out synthetic pictures."
    )
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--pictures", type=int, default=100, help="of each kind")
    parser.add_argument("--first-seed", type=int, default=HELD_OUT)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.pictures)
    result = evaluate(predictor(open_interpreter(options.model)), seeds)
    print(
        f"{result.pictures} pictures, accuracy {result.accuracy:.4f}; rows are the truth, columns the answer"
    )
    print(" " * 6 + "".join(f"{kind:>6}" for kind in KINDS))
    for kind, row in zip(KINDS, result.confusion, strict=True):
        print(f"{kind:6}" + "".join(f"{count:6}" for count in row))


if __name__ == "__main__":
    main()
