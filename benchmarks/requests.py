"""A request over the local backend against the bare pipeline, warm: one at a time, and sixteen in flight."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import (
    PROJECT,
    Row,
    Subject,
    alternate,
    compare,
    decoders_of,
    subjects,
)
from benchmarks.pool import WORKERS
from enclave_payload.heap import keep_freed_memory
from enclavectl.client.batch import classify
from enclavectl.client.session import Client
from tests.local_enclave import start_local_enclave

_TIMEOUT_S = 60.0
# As `diagnose` does.
_KEPT_BYTES = 16 * 1024 * 1024
_IN_FLIGHT = 16
_PROCESSES = 5


def main() -> list[Row]:
    """Return two rows for each picture: what a request costs beside the picture does not grow with it."""
    keep_freed_memory(_KEPT_BYTES)
    with subjects() as both:
        return [row for subject in both for row in _rows(subject)]


def _rows(subject: Subject) -> list[Row]:
    # The enclave second: a session has seconds for its first request, and a pool takes some to start.
    with pool(subject.path, count=1, workers=1) as run_base, session() as client:
        first = _one_at_a_time(client, run_base, subject)
    return [first, _in_flight(subject)]


@contextmanager
def session() -> Iterator[Client]:
    """Open a session with a fresh local enclave."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start_local_enclave(Path(folder), workers=decoders_of(WORKERS)) as enclave,
        Client.connect(enclave.address, enclave.expectation, timeout_s=_TIMEOUT_S) as client,
    ):
        yield client


def _one_at_a_time(client: Client, run_base: Callable[[], float], subject: Subject) -> Row:
    """Against a script in a process of its own: one that drew a photograph before is faster by a tenth."""
    ours_s: list[float] = []
    base_s: list[float] = []
    for _ in range(subject.rounds):
        started = time.perf_counter()
        client.submit(subject.picture, client.prepare(subject.picture))
        client.next_answer(time.monotonic() + _TIMEOUT_S)
        ours_s.append(time.perf_counter() - started)
        base_s.append(run_base())
    what = f"warm request, {subject.name}, against a bare script"
    warmup = subject.rounds // 20
    return compare(what, ours_s[warmup:], base_s[warmup:], limit=1.10)


def _in_flight(subject: Subject) -> Row:
    """Fresh processes on both sides, several times: where the memory of one lies moves it by 5 %."""
    pictures = [subject.picture] * subject.rounds
    ours_s: list[float] = []
    base_s: list[float] = []
    for _ in range(_PROCESSES):
        with pool(subject.path, count=subject.rounds) as run_base, session() as client:

            def ours(client: Client = client) -> None:
                replies = classify(client, pictures, timeout_s=_TIMEOUT_S, in_flight=_IN_FLIGHT)
                failed = [reply.error for reply in replies if reply.error is not None]
                if failed:
                    raise failed[0]

            found = alternate(ours, run_base, rounds=4, warmup=1)
            ours_s.append(statistics.median(found[0]))
            base_s.append(statistics.median(found[1]))
    ours_rate, base_rate = (subject.rounds / statistics.median(times) for times in (ours_s, base_s))
    return Row(
        what=f"16 in flight, {subject.name}, against a pool of 2 bare pipelines",
        ours=f"{ours_rate:.1f}/s",
        base=f"{base_rate:.1f}/s",
        ratio=ours_rate / base_rate,
        limit=0.95,
        at_least=True,
    )


@contextmanager
def pool(*paths: Path, count: int, workers: int = WORKERS) -> Iterator[Callable[[], float]]:
    """Yield a function that runs ``count`` pictures through ``benchmarks.pool``, and returns the seconds."""
    numbers = [str(workers), str(count)]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.pool", *numbers, *map(str, paths)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        source, sink = process.stdin, process.stdout
        assert source is not None
        assert sink is not None
        sink.readline()

        def run() -> float:
            source.write("\n")
            source.flush()
            return float(sink.readline())

        yield run
        source.close()
