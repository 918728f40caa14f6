"""``python -m benchmarks.pool WORKERS COUNT PICTURE...``: bare pipelines, in a process of their own.

Writes a line when it is ready; then, for each line that it reads, classifies COUNT pictures with so many
bare pipelines at once, the given ones in turn, and writes the seconds that it took.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

from benchmarks.common import MODEL_DIR, bare_pipeline

WORKERS = 2


def main(workers: int, count: int, paths: Sequence[Path]) -> None:
    """Serve standard input until it ends."""
    weights = (MODEL_DIR / "model.tflite").read_bytes()
    pictures = list(islice(cycle([path.read_bytes() for path in paths]), count))
    local = threading.local()

    def bare(data: bytes) -> object:
        if not hasattr(local, "classify"):
            local.classify = bare_pipeline(weights)
        return local.classify(data)

    with ThreadPoolExecutor(workers) as pool:
        each = map if workers == 1 else pool.map
        list(each(bare, pictures))
        print("ready", flush=True)
        for _ in sys.stdin:
            started = time.perf_counter()
            list(each(bare, pictures))
            print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]])
