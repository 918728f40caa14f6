"""An honest client beside a crowd: how long its requests take."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from enclavectl.client.exchange import CheckedAnswer, Expectation
from enclavectl.client.pictures import Picture
from enclavectl.client.session import Client
from enclavectl.errors import EnclavectlError
from enclavectl.net.address import Address

TIMEOUT_S = 20.0


@contextmanager
def crowd(address: Address, *kinds: str) -> Iterator[None]:
    """Peers of these kinds ("idle=1000"), in a process of their own: they do not share the client's lock."""
    argv = [sys.executable, "-m", "tests.hostile.crowd", str(address), *kinds]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            yield
        finally:
            process.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What became of so many whole requests: the seconds of those that were answered, and the failures."""

    seconds: list[float]
    failures: list[EnclavectlError]

    @property
    def median_s(self) -> float:
        """The median of the answered ones."""
        return statistics.median(self.seconds)


def serve_me(
    address: Address,
    expectation: Expectation,
    picture: Picture,
    *,
    count: int,
    timeout_s: float = TIMEOUT_S,
) -> Served:
    """Connect, verify, send one picture and open its answer, ``count`` times."""
    seconds, failures = [], []
    for _ in range(count):
        started = time.perf_counter()
        try:
            with Client.connect(address, expectation, timeout_s=timeout_s) as client:
                client.submit(picture, client.prepare(picture))
                _, answer = client.next_answer(time.monotonic() + timeout_s)
            assert isinstance(answer, CheckedAnswer), answer
            assert answer.receipted is not None
        except EnclavectlError as error:
            failures.append(error)
        else:
            seconds.append(time.perf_counter() - started)
    return Served(seconds=seconds, failures=failures)
