"""A request over the local backend against the bare pipeline, warm: one at a time, and sixteen in flight."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import (
    MODEL_DIR,
    PROJECT,
    Row,
    Subject,
    alternate,
    bare_pipeline,
    compare,
    subjects,
)
from benchmarks.pool import WORKERS
from enclavectl.client.batch import classify
from enclavectl.client.session import Client
from tests.local_enclave import start_local_enclave

_TIMEOUT_S = 60.0
_IN_FLIGHT = 16
_PROCESSES = 5


def main() -> list[Row]:
    """Return two rows for each picture: what a request costs beside the picture does not grow with it."""
    with subjects() as both:
        return [row for subject in both for row in _rows(subject)]


def _rows(subject: Subject) -> list[Row]:
    with session() as client:
        first = _one_at_a_time(client, subject)
    return [first, _in_flight(subject)]


@contextmanager
def session() -> Iterator[Client]:
    """Open a session with a fresh local enclave."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start_local_enclave(Path(folder), workers=WORKERS) as enclave,
        Client.connect(enclave.address, enclave.expectation, timeout_s=_TIMEOUT_S) as client,
    ):
        yield client


def _one_at_a_time(client: Client, subject: Subject) -> Row:
    bare, picture = bare_pipeline((MODEL_DIR / "model.tflite").read_bytes()), subject.picture

    def ours() -> None:
        client.submit(picture, client.prepare(picture))
        client.next_answer(time.monotonic() + _TIMEOUT_S)

    times = alternate(ours, lambda: bare(picture.data), rounds=subject.rounds, warmup=subject.rounds // 20)
    return compare(f"warm request, {subject.name}, against the bare pipeline", *times, limit=1.10)


def _in_flight(subject: Subject) -> Row:
    """Fresh processes on both sides, several times: where the memory of one lies moves it by 5 %."""
    pictures = [subject.picture] * subject.rounds
    ours_s: list[float] = []
    base_s: list[float] = []
    for _ in range(_PROCESSES):
        # The enclave second: a session has seconds for its first request, and the pool takes some to start.
        with pool(subject) as run_base, session() as client:

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
def pool(subject: Subject, paths: Sequence[Path] = ()) -> Iterator[Callable[[], None]]:
    """Yield a function that runs ``rounds`` pictures through ``benchmarks.pool``: that, or ``paths``."""
    pictures = [str(path) for path in paths or [subject.path]]
    argv = [sys.executable, "-m", "benchmarks.pool", str(subject.rounds), *pictures]
    with subprocess.Popen(
        argv, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        source, sink = process.stdin, process.stdout
        assert source is not None
        assert sink is not None
        sink.readline()

        def run() -> None:
            source.write("\n")
            source.flush()
            sink.readline()

        yield run
        source.close()
