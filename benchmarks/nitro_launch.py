"""The launch of an enclave on the real nitro-cli, on the tests' host in software with a process for a guest.

Run it in .ci/nitro-lane. Issue 14's limit is 0.5 s, at which the tests can afford it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.common import Row, compare
from tests.nitro.real import VARIABLE
from tests.nitro.real_host.host import real_host

_LIMIT_S = 0.5
_ROUNDS = 11


def main() -> list[Row]:
    """One row, or none where there is no nitro-cli."""
    if VARIABLE not in os.environ:
        print(f"nitro_launch: skipped: {VARIABLE} is not set; .ci/nitro-lane sets it")
        return []
    with tempfile.TemporaryDirectory(prefix="e.") as folder, real_host(Path(folder) / "host") as host:

        def run(*arguments: str | os.PathLike[str]) -> float:
            started = time.perf_counter()
            argv, environment = [host.program, *arguments], {**host.environment, "HOME": folder}
            subprocess.run(argv, env=environment, cwd=folder, capture_output=True, check=True)
            return time.perf_counter() - started

        launches = []
        for _ in range(_ROUNDS):
            launches.append(
                run("run-enclave", "--eif-path", host.eif, "--memory", "1024", "--cpu-count", "2")
            )
            run("terminate-enclave", "--all")
    return [compare("nitro-cli run-enclave, against 0.5 s", launches, [_LIMIT_S], limit=1.0)]
