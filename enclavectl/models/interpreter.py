"""TFLite's verdict on weights, in a process of its own: the runtime crashes on damaged weights.

``python -m enclavectl.models.interpreter DESCRIPTOR WEIGHTS WIDTH HEIGHT MEAN STD`` writes its observation as
JSON to the descriptor.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enclave_payload.card import ModelCard
from enclavectl.errors import HostError, UsageError
from enclavectl.run import Command, capture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# MobileNet v1 takes a third of a second on a small machine; the rest is for a busy machine.
_TIMEOUT_S = 60.0
# Damaged weights make the runtime touch whatever they name: half of a model took 16 GiB and 50 s. Its imports
# and 64 MiB of weights take less than 1 GiB, and a third of these seconds on a slow machine.
MAX_MEMORY_BYTES = 4 << 30
MAX_CPU_S = 20
# No image classifier has more inputs or outputs, or longer names.
_MAX_TENSORS = 16
_MAX_NAME = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or an output. A side of -1 in ``signature`` is dynamic; ``shape`` has its default."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The runtime's results for some weights.

    ``failed`` is the step that failed (``load``, ``allocate`` or ``inference``) and ``words`` the runtime's
    message. ``values`` are the outputs for each of two pictures, if the input is one that the payload can
    fill.
    """

    runtime: str
    failed: str | None = None
    words: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    values: tuple[tuple[float, ...], ...] = ()


def observe(weights: Path, card: ModelCard) -> Observation:
    """Load the weights in a separate process and classify two pictures.

    Raises:
        UsageError: the runtime crashed on them.
        HostError: this Python has no runtime, no process can be started, or it did not end within a minute.
    """
    scaling = (card.width, card.height, card.mean, card.std)
    descriptor = os.memfd_create("observation")
    with os.fdopen(descriptor, "r+b") as file:
        argv = [sys.executable, "-EPB", "-m", __name__, str(descriptor), str(weights.absolute())]
        command = Command(
            argv=[*argv, *map(str, scaling)], cwd=weights.absolute().parent, pass_fds=(descriptor,)
        )
        done = capture(command, timeout_s=_TIMEOUT_S)
        file.seek(0)
        text = file.read()
    if done.status < 0:
        raise UsageError(
            f"{weights}: expected a TFLite model, found weights on which the runtime ends with "
            f"signal {-done.status}",
            hint="export the model again: its hash is the card's, so the damage is older than the card",
            code="model-broken",
        )
    if done.status != 0 or not text:
        last = done.err.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {done.status}"]
        raise HostError(f"{sys.executable}: cannot ask TFLite about a model ({last[0]:.200})")
    return _from_json(json.loads(text))


def _from_json(value: dict[str, Any]) -> Observation:
    return Observation(
        runtime=value["runtime"],
        failed=value["failed"],
        words=value["words"],
        inputs=tuple(_tensor(one) for one in value["inputs"]),
        outputs=tuple(_tensor(one) for one in value["outputs"]),
        values=tuple(tuple(values) for values in value["values"]),
    )


def _tensor(value: dict[str, Any]) -> Tensor:
    shape, signature = tuple(value["shape"]), tuple(value["signature"])
    return Tensor(name=value["name"], dtype=value["dtype"], shape=shape, signature=signature)


def main(arguments: list[str]) -> None:
    """Write the observation. A refusal by the runtime is an observation as well; a crash is none."""
    descriptor, weights, width, height, mean, std = arguments
    bound_this_process()
    found = _observe_here(Path(weights), (int(height), int(width)), float(mean), float(std))
    os.write(int(descriptor), json.dumps(asdict(found)).encode())


def bound_this_process() -> None:
    """Bound memory and processor time, which damaged weights would otherwise choose."""
    for limit, wanted in ((resource.RLIMIT_AS, MAX_MEMORY_BYTES), (resource.RLIMIT_CPU, MAX_CPU_S)):
        hard = resource.getrlimit(limit)[1]
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(limit, (bound, hard))


def _observe_here(weights: Path, sides: tuple[int, int], mean: float, std: float) -> Observation:
    try:
        import tflite_runtime as package
        from tflite_runtime.interpreter import Interpreter
    except ModuleNotFoundError:  # the payload tries both runtimes in this order
        import ai_edge_litert as package
        from ai_edge_litert.interpreter import Interpreter

    name = package.__name__.replace("_", "-")
    runtime = f"{name} {getattr(package, '__version__', '')}".strip()
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
        if len(outputs) == 1 and _is_picture(inputs, sides):
            (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
            for pixels in _pictures(sides):
                interpreter.set_tensor(source["index"], (pixels - mean) / std)
                interpreter.invoke()
                values.append(tuple(float(one) for one in interpreter.get_tensor(sink["index"]).flat))
    except (ValueError, RuntimeError, MemoryError) as exc:
        return Observation(runtime=runtime, failed=step, words=str(exc), inputs=inputs, outputs=outputs)
    return Observation(runtime=runtime, inputs=inputs, outputs=outputs, values=tuple(values))


def _tensors(details: Iterable[dict[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            name=str(one["name"])[:_MAX_NAME],
            dtype=one["dtype"].__name__,
            shape=tuple(int(side) for side in one["shape"]),
            signature=tuple(int(side) for side in one["shape_signature"]),
        )
        for one in list(details)[:_MAX_TENSORS]
    )


def _is_picture(inputs: tuple[Tensor, ...], sides: tuple[int, int]) -> bool:
    return [(one.dtype, one.shape) for one in inputs] == [("float32", (1, *sides, 3))]


def _pictures(sides: tuple[int, int]) -> Iterable[NDArray[np.float32]]:
    """Make a gray picture and one whose pixels all differ: two sigmoids of one may add up to 1 by chance."""
    import numpy as np

    height, width = sides
    yield np.full((1, height, width, 3), 128, np.float32)
    yield np.random.default_rng(1).integers(0, 256, (1, height, width, 3)).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1:])
