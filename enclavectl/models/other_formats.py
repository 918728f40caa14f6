"""Weights that are no TFLite model, by their first bytes, each with what to do with such a file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from enclavectl.errors import UsageError

# https://ai.google.dev/edge/litert/conversion/tensorflow/convert_tf
_CONVERT = "convert it: tf.lite.TFLiteConverter.from_keras_model(model).convert()"
_FETCH_AGAIN = "the card's SHA-256 is that of this file, too: fetch the model again, and write its own there"
_FILE_IDENTIFIER = b"TFL3"  # at byte 4: tensorflow/compiler/mlir/lite/schema/schema.fbs


class OtherWeights(NamedTuple):
    """A file that is no TFLite model: its name in a sentence, and what to do with it."""

    name: str
    hint: str


_BY_MAGIC: dict[bytes, OtherWeights] = {
    b"\x89HDF\r\n\x1a\n": OtherWeights("a Keras model in HDF5", _CONVERT),
    b"PK\x03\x04": OtherWeights(
        "a ZIP archive, as Keras (.keras) and PyTorch (.pt) write models",
        f"{_CONVERT}; a PyTorch model: ai_edge_torch.convert(model, inputs).export('model.tflite')",
    ),
    b"GGUF": OtherWeights("a GGUF model", "the enclave classifies pictures with TFLite models only"),
    b"\x1f\x8b": OtherWeights("gzip-compressed data", "unpack it first: gunzip"),
    b"version https://git-lfs.github.com/": OtherWeights(
        "a Git LFS pointer, which stands for the weights", "fetch the weights: git lfs pull"
    ),
    b"<": OtherWeights("a web page or XML", _FETCH_AGAIN),
    b"{": OtherWeights("JSON text", _FETCH_AGAIN),
}
_ONNX = OtherWeights(
    "an ONNX model, or another protocol buffer", "export it to TFLite; onnx2tf converts ONNX"
)
_SAFETENSORS = OtherWeights(
    "weights in safetensors", "load them into their model, and convert that to TFLite"
)
_ZEROS = OtherWeights("zero bytes only", _FETCH_AGAIN)
_EMPTY = OtherWeights("an empty file", _FETCH_AGAIN)


def other_weights(data: bytes) -> OtherWeights | None:
    """Return what the weights are, if they are of a known kind other than TFLite."""
    if data[4:8] == _FILE_IDENTIFIER:
        return None
    if not data.strip(b"\0"):
        return _ZEROS if data else _EMPTY
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return _SAFETENSORS  # a length of 8 bytes, and JSON
    known = next((found for magic, found in _BY_MAGIC.items() if data.startswith(magic)), None)
    # The first field of onnx.ModelProto, and of TensorFlow's SavedModel, is a small integer.
    return known or (_ONNX if data[:1] == b"\x08" and data[2:3] in (b"\x12", b"\x1a", b"\x3a") else None)


def require_tflite(data: bytes, path: Path | str) -> None:
    """Refuse weights of a known kind other than TFLite.

    Raises:
        UsageError: they are of such a kind.
    """
    if (other := other_weights(data)) is not None:
        raise UsageError(
            f"{path}: expected a TFLite model, found {other.name}", hint=other.hint, code="model-format"
        )
