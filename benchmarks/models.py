"""Inference in 8 bits against float32 of the same net, with one and two threads; and a thousand labels.

``python -m benchmarks models`` measures the runtime of this Python, and then ai-edge-litert in a process of
its own, where this Python has the other one. pip fetches it into a temporary folder.
"""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import PROJECT, SAMPLE, Row, alternate, compare
from enclave_payload.card import Filter, Fit, Label, ModelCard, ModelInput, ModelOutput, Scores
from enclave_payload.classifier import Interpreter, TFLiteClassifier
from enclave_payload.contents import Timings, answer_of
from enclavectl.models.observation import runtime_name
from tests.models.tflite import CONV_2D, FULLY_CONNECTED, INT8, INT32, MEAN, SOFTMAX, Graph

_SIDE = 224
_LABELS = 1000
_ROUNDS = 15
# Channels and stride of each layer of 3 x 3, and then of 1 x 1: some 60 million multiplications.
_LAYERS = (
    (16, 2, 3),
    (32, 2, 3),
    (64, 2, 3),
    (128, 2, 3),
    (256, 1, 1),
    (256, 1, 1),
    (512, 2, 1),
    (512, 1, 1),
)
_STEP = 1 / 64
_OTHER = "ai-edge-litert"
# The payload takes tflite-runtime where it is installed.
_IN_OTHER = """
import dataclasses, json, sys
sys.modules["tflite_runtime"] = None
sys.path.append(sys.argv[1])
from benchmarks.models import measure
print(json.dumps(dataclasses.asdict(measure())))
"""


@dataclass(frozen=True, slots=True)
class _Layer:
    """A tensor under construction, and how it is quantized."""

    graph: Graph
    is_quantized: bool
    random: Random

    def tensor(self, name: str, shape: list[int]) -> int:
        if self.is_quantized:
            return self.graph.tensor(name, shape, INT8, scale=_STEP)
        return self.graph.tensor(name, shape)

    def weights(self, shape: list[int]) -> int:
        values = [self.random.randint(-127, 127) for _ in range(int(np.prod(shape)))]
        scale = 1 / 127 / (np.prod(shape[1:]) ** 0.5)
        if self.is_quantized:
            data = struct.pack(f"<{len(values)}b", *values)
            return self.graph.tensor("weights", shape, INT8, data=data, scale=float(scale))
        data = struct.pack(f"<{len(values)}f", *(value * scale for value in values))
        return self.graph.tensor("weights", shape, data=data)

    def bias(self, count: int) -> int:
        if self.is_quantized:
            return self.graph.tensor("bias", [count], INT32, data=bytes(4 * count), scale=_STEP * _STEP)
        return self.graph.tensor("bias", [count], data=bytes(4 * count))


def net(*, is_quantized: bool) -> bytes:
    """Write the same net of convolutions in float32 or in 8 bits."""
    graph = Graph()
    layer = _Layer(graph, is_quantized, Random(1))
    side, channels = _SIDE, 3
    first = last = layer.tensor("image", [1, side, side, channels])
    for count, stride, width in _LAYERS:
        side //= stride
        inputs = [last, layer.weights([count, width, width, channels]), layer.bias(count)]
        last = graph.apply(
            CONV_2D,
            inputs,
            layer.tensor("layer", [1, side, side, count]),
            version=3 if is_quantized else 1,
            # Padding to the same size, both strides, and a ReLU.
            options={0: ("b", 0), 1: ("i", stride), 2: ("i", stride), 3: ("b", 1)},
        )
        channels = count
    axis = graph.tensor("axes", [2], INT32, data=struct.pack("<2i", 1, 2))
    mean = graph.apply(MEAN, [last, axis], layer.tensor("mean", [1, channels]), version=2)
    dense = [mean, layer.weights([_LABELS, channels]), layer.bias(_LABELS)]
    last = graph.apply(
        FULLY_CONNECTED, dense, layer.tensor("logits", [1, _LABELS]), version=4 if is_quantized else 1
    )
    scores = (
        graph.tensor("scores", [1, _LABELS], INT8, scale=1 / 256, zero_point=-128)
        if is_quantized
        else graph.tensor("scores", [1, _LABELS])
    )
    last = graph.apply(SOFTMAX, [last], scores, version=2 if is_quantized else 1, options={0: ("f", 1.0)})
    return graph.model([first], [last])


def _ready(weights: bytes, threads: int) -> Any:
    interpreter = Interpreter(model_content=weights, num_threads=threads)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    pixels = np.random.default_rng(1).integers(-64, 64, source["shape"])
    interpreter.set_tensor(source["index"], pixels.astype(source["dtype"]))
    return interpreter


def main() -> list[Row]:
    """Return the rows of this Python's runtime, those of ai-edge-litert, and one for each pair of them."""
    ours = measure()
    if runtime_name().startswith("ai-edge-litert"):
        return ours.rows
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, _OTHER]
        subprocess.run(pip, check=True)
        done = subprocess.run(
            [sys.executable, "-c", _IN_OTHER, folder], check=True, capture_output=True, text=True, cwd=PROJECT
        )
    other = Measured(**json.loads(done.stdout.splitlines()[-1]))
    print("\n".join(done.stdout.splitlines()[:-1]))
    pairs = [
        compare(f"{_OTHER} against tflite-runtime: {what}", other.seconds[what], base, limit=1.0)
        for what, base in ours.seconds.items()
    ]
    return [*ours.rows, *(Row(**row) for row in other.rows), *pairs]


@dataclass(frozen=True, slots=True)
class Measured:
    """The rows of one runtime, and the seconds of each inference by net and threads."""

    rows: list[Any]
    seconds: dict[str, list[float]]


def measure() -> Measured:
    """Measure this process's runtime: a row for one and for two threads, and one for a thousand labels."""
    whole, small = net(is_quantized=False), net(is_quantized=True)
    runtime = runtime_name()
    rows, seconds = [], {}
    for threads in (1, 2):
        floats, eight = _ready(whole, threads), _ready(small, threads)
        times = alternate(eight.invoke, floats.invoke, rounds=_ROUNDS)
        rows.append(compare(f"{runtime}: int8 against float32, {threads} thread(s)", *times, limit=3.0))
        for kind, measured in zip(("int8", "float32"), times, strict=True):
            seconds[f"{kind}, {threads} thread(s)"] = measured
    return Measured([*rows, _thousand_labels(whole, runtime)], seconds)


def _thousand_labels(weights: bytes, runtime: str) -> Row:
    """Compare a picture of a thousand labels, prepared and answered, with a bare inference."""
    card = ModelCard(
        model_id="thousand",
        sha256=hashlib.sha256(weights).hexdigest(),
        input=ModelInput(
            width=_SIDE,
            height=_SIDE,
            fit=Fit.STRETCH,
            filter=Filter.BILINEAR,
            mean=("127.5",) * 3,
            std=("127.5",) * 3,
        ),
        output=ModelOutput(scores=Scores.SOFTMAX, top=10),
        labels=tuple(Label(code=f"c{index}", name=f"Class {index}") for index in range(_LABELS)),
        notice="A benchmark.",
    )
    classifier, bare = TFLiteClassifier(weights, card), _ready(weights, 1)
    with Image.open(SAMPLE) as image:
        picture = image.convert("RGB").resize((_SIDE, _SIDE))
    timings = Timings(queue_us=0, decode_us=0, inference_us=0)

    def answer() -> bytes:
        return answer_of(card, timings, classifier.classify(picture), ()).to_cbor()

    ours, base = alternate(answer, bare.invoke, rounds=_ROUNDS)
    row = compare(f"{runtime}: 1,000 labels answered, against bare inference", ours, base, limit=1.5)
    print(f"{runtime}: {1 / median(ours):.1f} pictures a second with 1,000 labels and one thread")
    return row
