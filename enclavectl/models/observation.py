"""TFLite's verdict on weights: they are loaded, and asked about two pictures.

``python -m enclavectl.models.observation FOLDER WEIGHTS DESCRIPTOR`` writes its observation to the
descriptor as one line of JSON; the card is ``model.json`` in the folder. It runs in a process of its own,
since the runtime crashes on damaged weights. A build runs it inside the image, with the image's runtime: so
it imports nothing but the payload and the standard library.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enclave_payload.card import Layout, ModelCard, load_card

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Damaged weights make the runtime touch whatever they name: half of a model took 16 GiB and 50 s. Its imports
# and 64 MiB of weights take less than 1 GiB, and a third of these seconds on a slow machine.
MAX_MEMORY_BYTES = 4 << 30
MAX_CPU_S = 20
# Before the JSON: a build's log has other lines, too.
MARK = "enclavectl-observation "
# No image classifier has more inputs or outputs, or sides of them, or longer names.
_MAX_TENSORS = 16
_MAX_NAME = 80
_MAX_WORDS = 2000
_STEPS = (None, "load", "allocate", "inference")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or an output. A side of -1 in ``signature`` is dynamic; ``shape`` has its default.

    ``scale`` is 0 where the tensor is not quantized.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The runtime's results for some weights.

    ``failed`` is the step that failed (``load``, ``allocate`` or ``inference``) and ``words`` the runtime's
    message. ``values`` are the outputs for each of two pictures, as numbers, if the input is one that the
    payload can fill.
    """

    runtime: str
    failed: str | None = None
    words: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    values: tuple[tuple[float, ...], ...] = ()

    def to_line(self) -> str:
        """Return the observation as ``observation_in`` finds it among other lines."""
        return MARK + json.dumps(asdict(self))


def observation_in(text: str) -> Observation | None:
    """Return the last observation among the lines of ``text``."""
    _, mark, rest = text.rpartition(MARK)
    if not mark:
        return None
    try:
        return _from_json(json.loads(rest.partition("\n")[0]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def main(arguments: list[str]) -> None:
    """Write the observation. A refusal by the runtime is an observation as well; a crash is none."""
    folder, weights, descriptor = arguments
    confine_this_process()
    line = observe_here(Path(weights), load_card(Path(folder))).to_line()
    os.write(int(descriptor), f"{line}\n".encode())


def confine_this_process() -> None:
    """Load what parses weights, and give up all but memory, time and reading files: they may be a stranger's.

    On Linux. Elsewhere memory and time are bounded, and nothing else.
    """
    # A process that is confined loads no library.
    import numpy.random  # noqa: F401

    import enclave_payload.classifier
    import enclave_payload.filling  # noqa: F401
    from enclave_payload.lockdown import lock_down_reader, lower_limit

    # Damaged weights would otherwise choose them.
    lower_limit(resource.RLIMIT_AS, MAX_MEMORY_BYTES)
    lower_limit(resource.RLIMIT_CPU, MAX_CPU_S)
    if sys.platform == "linux":
        lock_down_reader()


def runtime_name() -> str:
    """Return the name and version of the runtime that the payload uses here."""
    try:
        import tflite_runtime as package
    except ModuleNotFoundError:  # the payload tries both runtimes in this order
        import ai_edge_litert as package

    name = package.__name__.replace("_", "-")
    return f"{name} {getattr(package, '__version__', '')}".strip()


def observe_here(weights: Path, card: ModelCard) -> Observation:
    """Load the weights and classify two pictures, in this process."""
    from enclave_payload.classifier import Interpreter

    runtime = runtime_name()
    step = "load"
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    values: list[tuple[float, ...]] = []
    try:
        interpreter = Interpreter(model_content=weights.read_bytes(), num_threads=1)
        inputs = _tensors(interpreter.get_input_details())
        outputs = _tensors(interpreter.get_output_details())
        step = "allocate"
        interpreter.allocate_tensors()
        step = "inference"
        if len(outputs) == 1 and is_served_input(inputs, card):
            values = _values(interpreter, card)
    except (ValueError, RuntimeError, MemoryError) as exc:
        words = str(exc)[:_MAX_WORDS]
        return Observation(runtime=runtime, failed=step, words=words, inputs=inputs, outputs=outputs)
    return Observation(runtime=runtime, inputs=inputs, outputs=outputs, values=tuple(values))


def input_sides(card: ModelCard) -> tuple[int, ...]:
    """Return the shape that the card implies, with the batch."""
    width, height = card.input.width, card.input.height
    return (1, 3, height, width) if card.input.layout is Layout.NCHW else (1, height, width, 3)


def is_served_input(inputs: tuple[Tensor, ...], card: ModelCard) -> bool:
    """Tell whether the payload can fill that input."""
    return [one.shape for one in inputs] == [input_sides(card)] and is_served_type(inputs[0])


def is_served_type(tensor: Tensor) -> bool:
    """Tell whether the payload serves a tensor of that type."""
    return tensor.dtype == "float32" or (tensor.dtype in {"uint8", "int8"} and tensor.scale > 0)


def _values(interpreter: Any, card: ModelCard) -> list[tuple[float, ...]]:
    import numpy as np

    from enclave_payload.classifier import quantization_of
    from enclave_payload.filling import make_fill

    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    fill = make_fill(card.input, source["dtype"], quantization_of("input", source))
    found = quantization_of("output", sink) if np.dtype(sink["dtype"]).itemsize == 1 else None
    values = []
    for pixels in _pictures(card.input.width, card.input.height):
        fill(interpreter.tensor(source["index"])()[0], pixels)
        interpreter.invoke()
        outputs = interpreter.get_tensor(sink["index"]).ravel().tolist()
        values.append(tuple(float(one if found is None else found.number(one)) for one in outputs))
    return values


def _tensors(details: Iterable[Mapping[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            name=str(one["name"])[:_MAX_NAME],
            dtype=one["dtype"].__name__,
            shape=tuple(int(side) for side in one["shape"][:_MAX_TENSORS]),
            signature=tuple(int(side) for side in one["shape_signature"][:_MAX_TENSORS]),
            scale=float(one["quantization"][0]),
            zero_point=int(one["quantization"][1]),
        )
        for one in list(details)[:_MAX_TENSORS]
    )


def _pictures(width: int, height: int) -> Iterable[NDArray[np.uint8]]:
    """Make a gray picture and one whose pixels all differ: two sigmoids of one may add up to 1 by chance."""
    import numpy as np

    yield np.full((height, width, 3), 128, np.uint8)
    yield np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def _from_json(value: dict[str, Any]) -> Observation:
    """Read what the process wrote, of which weights may have taken over the parser.

    Raises:
        ValueError, KeyError, TypeError: it is no observation.
    """
    failed = value["failed"]
    if failed not in _STEPS:
        raise ValueError(failed)
    return Observation(
        runtime=_text(value["runtime"]),
        failed=failed,
        words=_text(value["words"]),
        inputs=tuple(_tensor(one) for one in _few(value["inputs"])),
        outputs=tuple(_tensor(one) for one in _few(value["outputs"])),
        values=tuple(tuple(_number(one) for one in values) for values in value["values"]),
    )


def _tensor(value: dict[str, Any]) -> Tensor:
    return Tensor(
        name=_text(value["name"]),
        dtype=_text(value["dtype"]),
        shape=tuple(_whole(one) for one in _few(value["shape"])),
        signature=tuple(_whole(one) for one in _few(value["signature"])),
        scale=_number(value["scale"]),
        zero_point=_whole(value["zero_point"]),
    )


def _few(values: list[Any]) -> list[Any]:
    # No more are told, of tensors and of sides.
    if len(values) > _MAX_TENSORS:
        raise ValueError(len(values))
    return values


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value[:_MAX_WORDS]


def _whole(value: object) -> int:
    # Of 64 bits: a side of a million digits could be told to nobody.
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise TypeError(value)
    return value


def _number(value: object) -> float:
    return value if isinstance(value, float) else float(_whole(value))


if __name__ == "__main__":
    main(sys.argv[1:])
