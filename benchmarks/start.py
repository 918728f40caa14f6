"""What starting costs: the command itself, and one picture from a cold start."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import enclave_payload
import enclavectl
from benchmarks.common import MODEL_DIR, SAMPLE, Row, alternate, compare
from tests.deploy.fleets import write_lock

_COMMAND = str(Path(sys.executable).with_name("enclavectl"))
_BARE = """
import sys
import numpy as np
from PIL import Image
try:
    from tflite_runtime.interpreter import Interpreter
except ModuleNotFoundError:
    from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
picture = Image.open(sys.argv[2]).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
pixels = (np.asarray(picture, dtype=np.float32) - np.float32(127.5)) / np.float32(127.5)
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[np.newaxis])
interpreter.invoke()
print(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
"""


def main() -> list[Row]:
    """Five rows, of an installation whose modules are compiled, as pip leaves one."""
    for package in (enclavectl, enclave_payload):
        compileall.compile_dir(package.__path__[0], quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "ENCLAVECTL_STATE_DIR": f"{folder}/state", "HOME": folder}
        environment.pop("ENCLAVECTL_MODEL", None)

        def process(*argv: str, may_fail: bool = False) -> Callable[[], object]:
            return lambda: run_quietly(argv, environment, may_fail=may_fail)

        typer = process(sys.executable, "-c", "import typer")
        bare = process(sys.executable, "-c", _BARE, str(MODEL_DIR / "model.tflite"), str(SAMPLE))
        diagnose = process(_COMMAND, "diagnose", str(SAMPLE))
        # Exit code 3 is an answer here: something may be wrong with this host.
        doctor = process(_COMMAND, "doctor", may_fail=True)
        lock = write_lock(Path(folder) / "enclavectl.lock.json")
        render = process(_COMMAND, "fleet", "render", str(lock), "--cpus", "2", "--to", f"{folder}/k8s")
        version, help_page = process(_COMMAND, "--version"), process(_COMMAND, "--help")
        return [
            compare(
                "enclavectl --version, against import typer", *alternate(version, typer, rounds=21), limit=1.5
            ),
            compare(
                "enclavectl --help, against import typer", *alternate(help_page, typer, rounds=21), limit=1.5
            ),
            compare(
                "enclavectl doctor, against --version", *alternate(doctor, version, rounds=15), limit=10.0
            ),
            compare(
                "enclavectl fleet render, against --version",
                *alternate(render, version, rounds=21),
                limit=3.0,
            ),
            compare("cold diagnose, against a bare script", *alternate(diagnose, bare, rounds=15), limit=3.0),
        ]


def run_quietly(argv: Sequence[str], environment: dict[str, str], *, may_fail: bool) -> None:
    """Run a program to its end, without its output."""
    done = subprocess.run(
        argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=not may_fail
    )
    if done.returncode not in {0, 3}:
        raise RuntimeError(f"{argv}: exit code {done.returncode}")
