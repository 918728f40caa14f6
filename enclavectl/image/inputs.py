"""What a model takes, asked of TFLite in a process of its own: the runtime crashes on damaged weights.

``python -m enclavectl.image.inputs WEIGHTS`` writes the inputs as JSON to its standard output.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.json_object import JsonObject
from enclavectl.run import Command, capture

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """One input tensor; a side of -1 is dynamic."""

    name: str
    sides: tuple[int, ...]


def read_inputs(weights: Path) -> tuple[ModelInput, ...]:
    """The inputs of a TFLite model.

    Raises:
        UsageError: TFLite cannot load it, or crashes on it.
        HostError: no process can be started, or it did not end within a minute.
    """
    argv = [sys.executable, "-EPB", "-m", "enclavectl.image.inputs", str(weights.absolute())]
    done = capture(Command(argv=argv, cwd=weights.parent), timeout_s=_TIMEOUT_S)
    if done.status != 0:
        how = f"signal {-done.status}" if done.status < 0 else f"exit status {done.status}"
        raise UsageError(
            f"{weights}: expected a TFLite model, found weights on which the runtime ends with {how}",
            hint="export the model again: its hash is the card's, so the damage is older than the card",
            code="model-broken",
        )
    return tuple(
        ModelInput(name=one.string("name"), sides=one.integers("sides", minimum=-1))  # -1: of any length
        for one in JsonObject.parse(done.out).objects("inputs")
    )


def main(weights: str) -> None:
    """Write them."""
    try:
        from tflite_runtime.interpreter import Interpreter
    except ModuleNotFoundError:  # as in the payload
        from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_content=Path(weights).read_bytes()).get_input_details()
    inputs = [
        {"name": str(one["name"]), "sides": [int(side) for side in one["shape_signature"]]} for one in details
    ]
    os.write(1, json.dumps({"inputs": inputs}).encode())


if __name__ == "__main__":
    main(sys.argv[1])
