"""``python -m benchmarks.pool PICTURE COUNT``: the base of the throughput rows, in a process of its own.

Writes a line when it is ready; then, for each line that it reads, classifies PICTURE COUNT times with two
bare pipelines in a pool, and writes the seconds that it took.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.common import MODEL_DIR, bare_pipeline

WORKERS = 2


def main(picture: Path, count: int) -> None:
    """Serve standard input until it ends."""
    weights, data = (MODEL_DIR / "model.tflite").read_bytes(), picture.read_bytes()
    local = threading.local()

    def bare(data: bytes) -> object:
        if not hasattr(local, "classify"):
            local.classify = bare_pipeline(weights)
        return local.classify(data)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(bare, [data] * count))
        print("ready", flush=True)
        for _ in sys.stdin:
            started = time.perf_counter()
            list(pool.map(bare, [data] * count))
            print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
