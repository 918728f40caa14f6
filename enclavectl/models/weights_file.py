"""What a .tflite file says of itself: tensors, operators, embedded metadata and labels. No TFLite is needed.

Field numbers are those of tensorflow/compiler/mlir/lite/schema/schema.fbs and of TFLite's
metadata_schema.fbs.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass

from enclavectl.models.flatbuffer import Buffer, FlatbufferError, Table

TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8"}
OPERATORS = {
    0: "ADD",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    18: "MUL",
    22: "RESHAPE",
    25: "SOFTMAX",
    32: "CUSTOM",
    39: "TRANSPOSE",
    40: "MEAN",
    41: "SUB",
    42: "DIV",
    56: "ARG_MAX",
    114: "QUANTIZE",
}
_CUSTOM = 32
# What an embedded list of labels may take; the files are a ZIP at the end of the model.
_MAX_FILE_BYTES = 64 * 1024
_MAX_FILES = 16
_LABEL_FILE = 2  # AssociatedFileType.TENSOR_AXIS_LABELS
_NORMALIZATION = 1  # ProcessUnitOptions.NormalizationOptions
_SCALES = {"MUL", "ADD", "SUB", "DIV"}
# Between the input and what the graph does with its values; between its scores and the output.
_BEFORE, _AFTER = {"QUANTIZE", "DEQUANTIZE", "TRANSPOSE"}, {"DEQUANTIZE", "QUANTIZE", "RESHAPE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTensor:
    """A tensor as the file describes it; -1 in ``signature`` is a side that is not fixed."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    scale: float | None
    zero_point: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operator of the graph: its name, for a custom one its own, and the tensors by number."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    is_custom: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What TFLite's metadata say: texts, how the input is scaled, and lists of labels by file name."""

    name: str = ""
    license: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """The graph of a file, as far as a card needs it."""

    inputs: tuple[FileTensor, ...]
    outputs: tuple[FileTensor, ...]
    operations: tuple[Operation, ...]
    input_numbers: tuple[int, ...]
    output_numbers: tuple[int, ...]
    metadata: Metadata | None

    @property
    def scores(self) -> str:
        """What the output is: softmax, sigmoid or logits, by the operator that makes it."""
        makers = {number: one for one in self.operations for number in one.outputs}
        number = self.output_numbers[0] if self.output_numbers else -1
        for _ in range(len(self.operations) + 1):  # a cycle ends here
            maker = makers.get(number)
            if maker is None or maker.name not in _AFTER or not maker.inputs:
                break
            number = maker.inputs[0]
        name = "" if maker is None else maker.name
        return {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid", "ARG_MAX": "argmax"}.get(name, "logits")

    @property
    def scales_by_itself(self) -> bool:
        """True if the graph scales pixel values before it looks at them."""
        number = self.input_numbers[0] if self.input_numbers else -1
        users: dict[int, Operation] = {}
        for one in reversed(self.operations):
            users |= dict.fromkeys(one.inputs, one)  # of several users the first one
        for _ in range(len(self.operations) + 1):
            user = users.get(number)
            if user is None or user.name in _SCALES:
                return user is not None
            if user.name not in _BEFORE or not user.outputs:
                return False
            number = user.outputs[0]
        return False

    @property
    def foreign_operations(self) -> tuple[str, ...]:
        """The names of operators that the runtime does not have: custom and Select TensorFlow (Flex) ones."""
        return tuple(dict.fromkeys(one.name for one in self.operations if one.is_custom))


def read_weights_file(data: bytes) -> WeightsFile:
    """Read a .tflite file.

    Raises:
        FlatbufferError: it is damaged, or no such file.
    """
    buffer = Buffer(data)
    model = buffer.root(b"TFL3")
    codes = [_code(one) for one in model.tables(1)]
    graph = next(model.tables(2), None)
    if graph is None:
        raise FlatbufferError("no graph")
    tensors = [_tensor(one) for one in graph.tables(0)]
    inputs, outputs = tuple(graph.numbers(1, "i")), tuple(graph.numbers(2, "i"))
    return WeightsFile(
        inputs=tuple(_at(tensors, number) for number in inputs),
        outputs=tuple(_at(tensors, number) for number in outputs),
        operations=tuple(_operation(one, codes) for one in graph.tables(3)),
        input_numbers=inputs,
        output_numbers=outputs,
        metadata=_metadata(model, data),
    )


def _at(tensors: list[FileTensor], number: int) -> FileTensor:
    if not 0 <= number < len(tensors):
        raise FlatbufferError("a tensor that there is not")
    return tensors[number]


def _code(code: Table) -> tuple[str, bool]:
    # Older files have it in the first field only, which has eight bits.
    number = max(code.number(0, "b"), code.number(3, "i"))
    is_custom = number == _CUSTOM
    name = code.text(1) if is_custom else OPERATORS.get(number, f"operator {number}")
    return name, is_custom


def _operation(operator: Table, codes: list[tuple[str, bool]]) -> Operation:
    index = operator.number(0, "I")
    if index >= len(codes):
        raise FlatbufferError("an operator that there is not")
    name, is_custom = codes[index]
    return Operation(
        name=name,
        inputs=tuple(operator.numbers(1, "i")),
        outputs=tuple(operator.numbers(2, "i")),
        is_custom=is_custom,
    )


def _tensor(tensor: Table) -> FileTensor:
    shape = tuple(tensor.numbers(0, "i"))
    quantization = tensor.table(4)
    scales = [] if quantization is None else quantization.reals(2)
    zero_points = [] if quantization is None else quantization.numbers(3, "q")
    number = tensor.number(1, "b")
    return FileTensor(
        name=tensor.text(3),
        dtype=TYPES.get(number, f"type {number}"),
        shape=shape,
        signature=tuple(tensor.numbers(7, "i")) or shape,
        scale=scales[0] if len(scales) == 1 else None,
        zero_point=zero_points[0] if len(zero_points) == 1 else 0,
    )


def _metadata(model: Table, data: bytes) -> Metadata | None:
    number = next((one.number(1, "I") for one in model.tables(6) if one.text(0) == "TFLITE_METADATA"), None)
    if number is None:
        return None
    buffers = list(model.tables(4))
    if number >= len(buffers):
        raise FlatbufferError("a buffer that there is not")
    whole = Buffer(buffers[number].data(0)).root(b"M001")
    graph = next(whole.tables(3), None)
    source = next(graph.tables(2), None) if graph else None
    sink = next(graph.tables(3), None) if graph else None
    mean, std = _normalization(source)
    return Metadata(
        name=whole.text(0),
        license=whole.text(5),
        mean=mean,
        std=std,
        labels=_labels(sink, data),
    )


def _normalization(source: Table | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for unit in source.tables(4) if source else ():
        if unit.number(0, "B") == _NORMALIZATION and (options := unit.table(1)) is not None:
            return tuple(options.reals(0)), tuple(options.reals(1))
    return (), ()


def _labels(sink: Table | None, data: bytes) -> tuple[str, ...]:
    """Return the lines of the first list of labels without a locale, or of the first one at all."""
    files = [one for one in (sink.tables(6) if sink else ()) if one.number(2, "b") == _LABEL_FILE]
    for file in sorted(files[:_MAX_FILES], key=lambda one: bool(one.text(3))):
        text = _packed_file(data, file.text(0))
        if text is not None:
            return tuple(line.strip() for line in text.splitlines() if line.strip())
    return ()


def _packed_file(data: bytes, name: str) -> str | None:
    text = None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if name in names and len(names) <= _MAX_FILES:
                with archive.open(name) as file:
                    text = file.read(_MAX_FILE_BYTES + 1)
    # What zipfile raises for damage, for encryption and for methods that it lacks.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as exc:
        raise FlatbufferError("the files packed into it are damaged") from exc
    if len(names) > _MAX_FILES:
        raise FlatbufferError(f"more than {_MAX_FILES} files are packed into it")
    if text is None:
        return None
    if len(text) > _MAX_FILE_BYTES:
        raise FlatbufferError(f"a list of labels over {_MAX_FILE_BYTES} bytes")
    return text.decode(errors="replace")
