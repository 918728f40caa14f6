"""A bare interpreter over the same pictures, written apart from the payload, to compare it with.

``python -m enclavectl.models.bare FOLDER WEIGHTS LIST DESCRIPTOR`` reads the card (``model.json`` in the
folder) and a list of picture files, and writes one line of JSON for each to the descriptor: the
probabilities, or null for a picture that cannot be read. It runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from enclave_payload.card import Filter, Fit, Layout, ModelCard, ModelInput, Scores, load_card
from enclave_payload.classifier import Interpreter
from enclavectl.models.observation import confine_this_process

_Floats = NDArray[np.float64]


def main(arguments: list[str]) -> None:
    """Classify each picture of the list."""
    folder, weights, names, descriptor = arguments
    Image.init()
    confine_this_process()
    card = load_card(Path(folder))
    interpreter = Interpreter(model_content=Path(weights).read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    for name in json.loads(Path(names).read_text()):
        try:
            with Image.open(name) as image:
                picture = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            os.write(int(descriptor), b"null\n")
            continue
        values = classify(interpreter, card, picture)
        os.write(int(descriptor), f"{json.dumps(values)}\n".encode())


def classify(interpreter: Any, card: ModelCard, picture: Image.Image) -> list[float]:
    """Prepare one upright RGB picture, ask the interpreter, and return probabilities."""
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    pixels = np.asarray(fit(picture, card.input), np.float64)
    values = _scaled(pixels, card.input, source)
    if card.input.layout is Layout.NCHW:
        values = values.transpose(2, 0, 1)
    interpreter.set_tensor(source["index"], values[np.newaxis].astype(source["dtype"]))
    interpreter.invoke()
    outputs = np.asarray(interpreter.get_tensor(sink["index"]), np.float64).ravel()
    scale, zero_point = sink["quantization"]
    if scale:
        outputs = (outputs - zero_point) * scale
    return [float(one) for one in _probabilities(outputs, card.output.scores)]


def fit(picture: Image.Image, form: ModelInput) -> Image.Image:
    """Bring a picture to the input's size."""
    size = form.width, form.height
    box = (0.0, 0.0, float(picture.width), float(picture.height))
    if form.fit is Fit.PAD:
        scale = min(form.width / picture.width, form.height / picture.height)
        inner = max(1, int(picture.width * scale + 0.5)), max(1, int(picture.height * scale + 0.5))
        framed = Image.new("RGB", size, (form.pad or 0,) * 3)
        corner = (form.width - inner[0]) // 2, (form.height - inner[1]) // 2
        framed.paste(_resized(picture, inner, box, form.filter), corner)
        return framed
    if form.fit is Fit.CROP:
        part = float(form.crop or 1) * min(picture.width / form.width, picture.height / form.height)
        wide, high = form.width * part, form.height * part
        left, top = (picture.width - wide) / 2, (picture.height - high) / 2
        box = (left, top, left + wide, top + high)
    return _resized(picture, size, box, form.filter)


def _resized(
    picture: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float], how: Filter
) -> Image.Image:
    if how is not Filter.SAMPLED:
        return picture.resize(size, Image.Resampling[how.name], box=box)
    return Image.fromarray(_sampled(np.asarray(picture, np.float64), size, box).astype(np.uint8))


def _sampled(pixels: _Floats, size: tuple[int, int], box: tuple[float, float, float, float]) -> _Floats:
    """Sample four pixels around each half-pixel center, as tf.image.resize does without antialias."""
    left, top, right, bottom = box
    rows, down = _places(top, bottom, size[1], pixels.shape[0])
    columns, across = _places(left, right, size[0], pixels.shape[1])
    next_rows = np.minimum(rows + 1, pixels.shape[0] - 1)
    next_columns = np.minimum(columns + 1, pixels.shape[1] - 1)
    down, across = down[:, None, None], across[None, :, None]
    upper = pixels[rows][:, columns] * (1 - across) + pixels[rows][:, next_columns] * across
    lower = pixels[next_rows][:, columns] * (1 - across) + pixels[next_rows][:, next_columns] * across
    return np.asarray(upper * (1 - down) + lower * down)


def _places(start: float, end: float, count: int, limit: int) -> tuple[NDArray[np.int64], _Floats]:
    centers = start + (np.arange(count) + 0.5) * (end - start) / count - 0.5
    centers = np.clip(centers, 0, limit - 1)
    whole = np.floor(centers).astype(np.int64)
    return whole, centers - whole


def _scaled(pixels: _Floats, form: ModelInput, source: dict[str, Any]) -> _Floats:
    dtype = np.dtype(source["dtype"])
    if form.mean is None or form.std is None:
        return pixels - 128 if dtype == np.int8 else pixels
    values = (pixels - np.array(form.mean, np.float64)) / np.array(form.std, np.float64)
    scale, zero_point = source["quantization"]
    if dtype == np.float32:
        return values
    limits = np.iinfo(dtype)
    quantized = np.sign(values / scale) * np.floor(np.abs(values / scale) + 0.5) + zero_point
    return np.asarray(np.clip(quantized, limits.min, limits.max))


def _probabilities(outputs: _Floats, scores: Scores) -> _Floats:
    if scores is Scores.LOGITS:
        powers = np.exp(outputs - outputs.max())
        return np.asarray(powers / powers.sum())
    if scores is Scores.LOGITS_SIGMOID:
        return np.asarray(1 / (1 + np.exp(-np.clip(outputs, -700, 700))))
    return outputs


if __name__ == "__main__":
    main(sys.argv[1:])
