"""Thirteen tiny classifiers whose answers can be computed by hand: pictures of 8 x 8, their mean color, one
dense layer with weights ((7r + 3c) mod 11 - 5) / 4 and bias ((5c) mod 7 - 3) / 8.

``python -m tests.models.tiny FOLDER`` writes them. No TensorFlow is needed.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.models.tflite import (
    DEQUANTIZE,
    FLOAT16,
    FULLY_CONNECTED,
    INT8,
    INT32,
    LOGISTIC,
    MEAN,
    QUANTIZE,
    RESHAPE,
    SOFTMAX,
    TRANSPOSE,
    UINT8,
    Graph,
)

SIDE = 8
# TensorFlow's own parameters for inputs of -1 to 1.
INPUT_SCALE = struct.unpack("<f", struct.pack("<f", 0.007843137718737125))[0]
LOGIT_SCALE = 1 / 32
SOFTMAX_SCALE = 1 / 256


def weight(row: int, column: int) -> float:
    return ((7 * row + 3 * column) % 11 - 5) / 4


def bias(column: int) -> float:
    return ((5 * column) % 7 - 3) / 8


def logits_of(inputs: Sequence[float], labels: int) -> list[float]:
    """What the dense layer gives for a mean color as it enters the model."""
    return [
        sum(value * weight(row, column) for row, value in enumerate(inputs)) + bias(column)
        for column in range(labels)
    ]


def softmax_of(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / sum(powers) for power in powers]


def sigmoid_of(logits: Sequence[float]) -> list[float]:
    return [1 / (1 + math.exp(-logit)) for logit in logits]


def _dense(graph: Graph, source: int, labels: int) -> int:
    values = [weight(row, column) for column in range(labels) for row in range(3)]
    weights = graph.tensor("weights", [labels, 3], data=struct.pack(f"<{len(values)}f", *values))
    offsets = graph.tensor(
        "bias", [labels], data=struct.pack(f"<{labels}f", *(bias(column) for column in range(labels)))
    )
    return graph.apply(FULLY_CONNECTED, [source, weights, offsets], graph.tensor("logits", [1, labels]))


def _sigmoid(graph: Graph, source: int, labels: int) -> int:
    return graph.apply(LOGISTIC, [source], graph.tensor("scores", [1, labels]))


def _softmax(graph: Graph, source: int, labels: int) -> int:
    return graph.softmax(source, labels)


def _none(graph: Graph, source: int, labels: int) -> int:
    del graph, labels
    return source


def floating(
    end: Callable[[Graph, int, int], int] = _softmax, labels: int = 3, *, signature: list[int] | None = None
) -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, SIDE, SIDE, 3], signature=signature)
    return graph.model([image], [end(graph, _dense(graph, graph.mean(image), labels), labels)])


def half() -> bytes:
    """Weights in float16, which a DEQUANTIZE makes float32."""
    graph = Graph()
    image = graph.tensor("image", [1, SIDE, SIDE, 3])
    values = [weight(row, column) for column in range(3) for row in range(3)]
    packed = graph.tensor("w16", [3, 3], FLOAT16, data=struct.pack("<9e", *values))
    weights = graph.apply(DEQUANTIZE, [packed], graph.tensor("weights", [3, 3]), version=3)
    offsets = graph.tensor("bias", [3], data=struct.pack("<3f", *map(bias, range(3))))
    logits = graph.apply(
        FULLY_CONNECTED, [graph.mean(image), weights, offsets], graph.tensor("logits", [1, 3])
    )
    return graph.model([image], [graph.softmax(logits)])


def channels_first() -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, 3, SIDE, SIDE])
    order = graph.tensor("order", [4], INT32, data=struct.pack("<4i", 0, 2, 3, 1))
    turned = graph.apply(TRANSPOSE, [image, order], graph.tensor("nhwc", [1, SIDE, SIDE, 3]))
    return graph.model([image], [graph.softmax(_dense(graph, graph.mean(turned), 3))])


def four_sides() -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, SIDE, SIDE, 3])
    shape = graph.tensor("shape", [4], INT32, data=struct.pack("<4i", 1, 1, 1, 3))
    scores = graph.softmax(_dense(graph, graph.mean(image), 3))
    return graph.model([image], [graph.apply(RESHAPE, [scores, shape], graph.tensor("out", [1, 1, 1, 3]))])


def quantized(labels: int = 3, *, unsigned: bool = False, ends_in_logits: bool = False) -> bytes:
    """All of it in 8 bits; ``unsigned`` puts a QUANTIZE around it, as TensorFlow's converter does."""
    graph = Graph()
    shape, scale = [1, SIDE, SIDE, 3], INPUT_SCALE
    source = graph.tensor("image", shape, INT8, scale=scale, zero_point=-1)
    first = source
    if unsigned:
        first = graph.tensor("pixels", shape, UINT8, scale=scale, zero_point=127)
        graph.apply(QUANTIZE, [first], source)
    axis = graph.tensor("axes", [2], INT32, data=struct.pack("<2i", 1, 2))
    mean = graph.tensor("mean", [1, 3], INT8, scale=scale, zero_point=-1)
    graph.apply(MEAN, [source, axis], mean, version=2)
    step = 1.25 / 127
    whole = [round(weight(row, column) / step) for column in range(labels) for row in range(3)]
    weights = graph.tensor(
        "weights", [labels, 3], INT8, data=struct.pack(f"<{len(whole)}b", *whole), scale=step
    )
    offsets = [round(bias(column) / (step * scale)) for column in range(labels)]
    biases = graph.tensor(
        "bias", [labels], INT32, data=struct.pack(f"<{labels}i", *offsets), scale=step * scale
    )
    last = graph.tensor("logits", [1, labels], INT8, scale=LOGIT_SCALE)
    graph.apply(FULLY_CONNECTED, [mean, weights, biases], last, version=4)
    out_scale, out_zero = LOGIT_SCALE, 0
    if not ends_in_logits:
        scores = graph.tensor("scores", [1, labels], INT8, scale=SOFTMAX_SCALE, zero_point=-128)
        last = graph.apply(SOFTMAX, [last], scores, version=2, options={0: ("f", 1.0)})
        out_scale, out_zero = SOFTMAX_SCALE, -128
    if unsigned:
        sink = graph.tensor("out", [1, labels], UINT8, scale=out_scale, zero_point=out_zero + 128)
        last = graph.apply(QUANTIZE, [last], sink)
    return graph.model([first], [last])


MODELS: dict[str, Callable[[], bytes]] = {
    "f32": floating,
    "f16": half,
    "logits": lambda: floating(_none),
    "sigmoid": lambda: floating(_sigmoid),
    "binary": lambda: floating(_sigmoid, 1),
    "nchw": channels_first,
    "out4d": four_sides,
    "dynbatch": lambda: floating(signature=[-1, SIDE, SIDE, 3]),
    "int8": quantized,
    "uint8": lambda: quantized(unsigned=True),
    "uint8-logits": lambda: quantized(unsigned=True, ends_in_logits=True),
    "f32-1001": lambda: floating(labels=1001),
    "uint8-1001": lambda: quantized(1001, unsigned=True),
}


def main() -> None:
    """Write each model as NAME.tflite."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        (folder / f"{name}.tflite").write_bytes(make())


if __name__ == "__main__":
    main()
