"""What ``enclavectl list`` adds to ``nitro-cli describe-enclaves``, on the tests' fake host with one enclave.

Issue 4's limit: one process start, plus 150 ms of ours. The start is that of the bare interpreter.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import Row, alternate
from tests.nitro.host import fake_host

_COMMAND = str(Path(sys.executable).with_name("enclavectl"))
_LIMIT_S = 0.150
_ROUNDS = 21


def main() -> list[Row]:
    """One row, whose ratio is our share of the overhead over 150 ms."""
    with tempfile.TemporaryDirectory() as folder, fake_host(Path(folder) / "host") as host:
        environment = {
            **host.environment,
            "HOME": folder,
            "LANG": "C.UTF-8",
            "ENCLAVECTL_STATE_DIR": f"{folder}/state",
            "ENCLAVECTL_BACKEND": "nitro",
        }

        def run(*argv: str | os.PathLike[str]) -> None:
            subprocess.run(argv, env=environment, cwd=folder, stdout=subprocess.DEVNULL, check=True)

        run(_COMMAND, "run", host.eif, "--memory", "1024", "--cpus", "2")
        try:
            ours, base = alternate(
                lambda: run(_COMMAND, "list", "--output", "json"),
                lambda: run(host.program, "describe-enclaves"),
                rounds=_ROUNDS,
            )
            starts, _ = alternate(lambda: run(sys.executable, "-c", "pass"), lambda: None, rounds=_ROUNDS)
        finally:
            run(_COMMAND, "terminate", "--all")
    middle, told, start = map(statistics.median, (ours, base, starts))
    share = middle - told - start
    return [
        Row(
            what="enclavectl list, over nitro-cli describe-enclaves and a process start",
            ours=f"{middle * 1e3:.0f} ms",
            base=f"{told * 1e3:.0f} + {start * 1e3:.0f} ms, + 150 ms",
            ratio=share / _LIMIT_S,
            limit=1.0,
        )
    ]
