"""``python -m benchmarks.pool COUNT``: the base of the throughput row, a process of its own as an enclave is.

Writes a line when it is ready; then, for each line that it reads, classifies COUNT pictures with two bare
pipelines in a pool, and writes the seconds that it took.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.common import MODEL_DIR, SAMPLE, bare_pipeline

WORKERS = 2


def main(count: int) -> None:
    """Serve standard input until it ends."""
    weights, data = (MODEL_DIR / "model.tflite").read_bytes(), SAMPLE.read_bytes()
    local = threading.local()

    def bare(picture: bytes) -> object:
        if not hasattr(local, "classify"):
            local.classify = bare_pipeline(weights)
        return local.classify(picture)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(bare, [data] * count))
        print("ready", flush=True)
        for _ in sys.stdin:
            started = time.perf_counter()
            list(pool.map(bare, [data] * count))
            print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
