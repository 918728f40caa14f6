"""Tiny TFLite models, written by hand: a picture's mean color, one dense layer, and what follows it.

The form is FlatBuffers (https://flatbuffers.dev/internals) with the tables of TensorFlow's
lite/schema/schema.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

FLOAT32, FLOAT16, INT32, UINT8, INT8 = 0, 1, 2, 3, 9
ADD, CONV_2D, DEQUANTIZE, FULLY_CONNECTED, LOGISTIC, RESHAPE = 0, 3, 6, 9, 14, 22
SOFTMAX, CUSTOM, TRANSPOSE, MEAN, CAST, ARG_MAX, QUANTIZE = 25, 32, 39, 40, 53, 56, 114
# The numbers that the union BuiltinOptions has for options that must be there.
_OPTIONS = {CONV_2D: 1, FULLY_CONNECTED: 8, SOFTMAX: 9, ADD: 11, RESHAPE: 17, MEAN: 27}

Write = Callable[["_Buffer"], int]
# A scalar is its struct format and value; anything else is written behind its table and pointed to.
Field = tuple[str, float] | Write


class _Buffer:
    """Bytes that grow; parents come before their children, so that every offset points forward."""

    def __init__(self) -> None:
        self.data = bytearray(8)

    def align(self, size: int) -> int:
        self.data += bytes(-len(self.data) % size)
        return len(self.data)

    def point(self, place: int, target: int) -> None:
        struct.pack_into("<I", self.data, place, target - place)


def table(fields: dict[int, Field]) -> Write:
    def write(buffer: _Buffer) -> int:
        places: dict[int, int] = {}
        size = 4
        for number, one in fields.items():
            width = struct.calcsize(one[0]) if isinstance(one, tuple) else 4
            size += -size % width
            places[number] = size
            size += width
        count = max(fields, default=-1) + 1
        vtable = buffer.align(4)
        slots = [places.get(number, 0) for number in range(count)]
        buffer.data += struct.pack(f"<{count + 2}H", 4 + 2 * count, size, *slots)
        start = buffer.align(4)
        buffer.data += struct.pack("<i", start - vtable) + bytes(size - 4)
        for number, one in fields.items():
            if isinstance(one, tuple):
                struct.pack_into("<" + one[0], buffer.data, start + places[number], one[1])
        for number, one in fields.items():
            if not isinstance(one, tuple):
                buffer.point(start + places[number], one(buffer))
        return start

    return write


def numbers(values: Sequence[int]) -> Write:
    return blob(struct.pack(f"<{len(values)}i", *values), count=len(values))


def blob(data: bytes, *, count: int | None = None) -> Write:
    def write(buffer: _Buffer) -> int:
        buffer.data += bytes(-(len(buffer.data) + 4) % 16)
        start = len(buffer.data)
        buffer.data += struct.pack("<I", len(data) if count is None else count) + data + b"\0"
        return start

    return write


def tables(items: Sequence[Write]) -> Write:
    def write(buffer: _Buffer) -> int:
        start = buffer.align(4)
        buffer.data += struct.pack("<I", len(items)) + bytes(4 * len(items))
        for index, item in enumerate(items):
            buffer.point(start + 4 + 4 * index, item(buffer))
        return start

    return write


@dataclass
class Graph:
    """A model under construction; methods add an operation and return the number of its output."""

    tensors: list[Write] = field(default_factory=list)
    buffers: list[Write] = field(default_factory=lambda: [table({})])
    codes: list[Write] = field(default_factory=list)
    operators: list[Write] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        kind: int = FLOAT32,
        *,
        data: bytes | None = None,
        signature: Sequence[int] | None = None,
        scale: float | None = None,
        zero_point: int = 0,
    ) -> int:
        self.buffers.append(table({} if data is None else {0: blob(data)}))
        fields: dict[int, Field] = {
            0: numbers(shape),
            1: ("b", kind),
            2: ("I", len(self.buffers) - 1),
            3: blob(name.encode()),
        }
        if scale is not None:
            fields[4] = table(
                {
                    2: blob(struct.pack("<f", scale), count=1),
                    3: blob(struct.pack("<q", zero_point), count=1),
                }
            )
        if signature is not None:
            fields[7] = numbers(signature)
        self.tensors.append(table(fields))
        return len(self.tensors) - 1

    def apply(
        self,
        code: int,
        inputs: Sequence[int],
        output: int,
        *,
        version: int = 1,
        custom: str = "",
        options: dict[int, Field] | None = None,
    ) -> int:
        fields: dict[int, Field] = {0: ("b", min(code, 127)), 2: ("i", version), 3: ("i", code)}
        if custom:
            fields[1] = blob(custom.encode())
        self.codes.append(table(fields))
        operator: dict[int, Field] = {0: ("I", len(self.codes) - 1), 1: numbers(inputs), 2: numbers([output])}
        if code in _OPTIONS:
            operator |= {3: ("B", _OPTIONS[code]), 4: table(options or {})}
        self.operators.append(table(operator))
        return output

    def mean(self, source: int, channels: int = 3, *, batch: int = 1, axes: tuple[int, int] = (1, 2)) -> int:
        axis = self.tensor("axes", [2], INT32, data=struct.pack("<2i", *axes))
        return self.apply(MEAN, [source, axis], self.tensor("mean", [batch, channels]))

    def dense(
        self, source: int, labels: int = 3, channels: int = 3, *, batch: int = 1, version: int = 1
    ) -> int:
        count = labels * channels
        weights = struct.pack(f"<{count}f", *(4 * index / max(count - 1, 1) - 2 for index in range(count)))
        inputs = [
            source,
            self.tensor("weights", [labels, channels], data=weights),
            self.tensor("bias", [labels], data=bytes(4 * labels)),
        ]
        return self.apply(FULLY_CONNECTED, inputs, self.tensor("logits", [batch, labels]), version=version)

    def softmax(self, source: int, labels: int = 3, *, batch: int = 1, version: int = 1) -> int:
        output = self.tensor("probabilities", [batch, labels])
        return self.apply(SOFTMAX, [source], output, version=version, options={0: ("f", 1.0)})

    def model(self, inputs: Sequence[int], outputs: Sequence[int], *, metadata: bytes | None = None) -> bytes:
        graph: dict[int, Field] = {
            0: tables(self.tensors),
            1: numbers(inputs),
            2: numbers(outputs),
            3: tables(self.operators),
        }
        fields: dict[int, Field] = {
            0: ("I", 3),
            1: tables(self.codes),
            2: tables([table(graph)]),
            4: tables(self.buffers),
        }
        if metadata is not None:
            self.buffers.append(table({0: blob(metadata)}))
            fields[6] = tables([table({0: blob(b"TFLITE_METADATA"), 1: ("I", len(self.buffers) - 1)})])
        return finished(b"TFL3", table(fields))


def finished(identifier: bytes, root: Write) -> bytes:
    """A whole buffer of that root table."""
    buffer = _Buffer()
    buffer.data[4:8] = identifier
    buffer.point(0, root(buffer))
    return bytes(buffer.data)


def metadata_of(mean: Sequence[float], std: Sequence[float], labels_file: str) -> bytes:
    """TFLite's metadata of one input and one output, as tflite-support writes them."""
    options = table(
        {
            0: blob(struct.pack(f"<{len(mean)}f", *mean), count=len(mean)),
            1: blob(struct.pack(f"<{len(std)}f", *std), count=len(std)),
        }
    )
    source = table({0: blob(b"image"), 4: tables([table({0: ("B", 1), 1: options})])})
    sink = table({0: blob(b"probability"), 6: tables([table({0: blob(labels_file.encode()), 2: ("b", 2)})])})
    graph = table({2: tables([source]), 3: tables([sink])})
    return finished(b"M001", table({0: blob(b"Three colors"), 3: tables([graph]), 5: blob(b"Apache-2.0")}))
