"""An honest client of a local enclave, alone and beside hostile peers: requests, and answers to a listener.

A whole request is connect, verify, seal, send, open. The peers are those of ``tests/hostile/crowd.py``.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from benchmarks.common import SAMPLE, Row, decoders_of
from benchmarks.pool import WORKERS
from enclavectl.client.batch import classify
from enclavectl.client.listener import Arrived, Listener
from enclavectl.client.pictures import Picture, read_picture
from enclavectl.client.session import Client
from enclavectl.net.transport import listening
from enclavectl.protocol.media import MediaType
from tests.hostile.honest import Served, crowd, serve_me
from tests.local_enclave import LocalEnclave, start_local_enclave

_COUNT = 40
_TIMEOUT_S = 30.0
_CROWDS = {
    "1,000 idle peers": ("idle=1000",),
    "100 peers that speak another protocol": ("garbage=100",),
    "1,000 idle and 100 garbage peers": ("idle=1000", "garbage=100"),
    "200 peers that drip a challenge": ("half=200",),
    "100 peers that take evidence and ask nothing": ("challenge=100",),
    "50 peers whose requests do not open": ("unopened=50",),
    "100 peers with 2 MiB of a frame of 19": ("unfinished=100",),
}


def main() -> list[Row]:
    """Yield a row for each kind of peer."""
    picture = read_picture(str(SAMPLE), lambda _: b"")
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        start_local_enclave(Path(folder), workers=decoders_of(WORKERS)) as enclave,
    ):
        serve_me(enclave.address, enclave.expectation, picture, count=10)
        for what, kinds in _CROWDS.items():
            rows.append(_beside(enclave, picture, what, kinds))
        rows.append(_beside_greedy(enclave, picture))
        rows.append(_to_a_listener(enclave))
    return rows


def _beside(enclave: LocalEnclave, picture: Picture, what: str, kinds: tuple[str, ...]) -> Row:
    def run() -> Served:
        return serve_me(enclave.address, enclave.expectation, picture, count=_COUNT)

    before = run()
    with crowd(enclave.address, *kinds):
        beside = run()
    base_s = statistics.median([*before.seconds, *run().seconds])
    ours_s = beside.median_s if beside.seconds else float("inf")
    return Row(
        what=f"beside {what}, {len(beside.seconds)} of {_COUNT} answered",
        ours=f"{ours_s * 1e3:.0f} ms",
        base=f"{base_s * 1e3:.0f} ms",
        ratio=ours_s / base_s,
        limit=2.0,
    )


def _beside_greedy(enclave: LocalEnclave, picture: Picture) -> Row:
    """Eight large pictures of one client; a small one of another must not wait for all of them."""
    file = io.BytesIO()
    Image.frombytes("RGB", (2400, 1600), os.urandom(2400 * 1600 * 3)).save(file, "PNG", compress_level=1)
    large = Picture("large.png", MediaType.PNG, file.getvalue())
    one = serve_me(enclave.address, enclave.expectation, large, count=5)
    over, is_busy = threading.Event(), threading.Event()

    def greedy() -> None:
        with Client.connect(enclave.address, enclave.expectation, timeout_s=_TIMEOUT_S) as client:
            while not over.is_set():
                for _ in classify(client, [large] * 8, timeout_s=_TIMEOUT_S, in_flight=8):
                    is_busy.set()

    thread = threading.Thread(target=greedy)
    thread.start()
    is_busy.wait(_TIMEOUT_S)
    try:
        beside = serve_me(enclave.address, enclave.expectation, picture, count=10)
    finally:
        over.set()
        thread.join()
    return Row(
        what="a small picture beside a client with 8 large ones, against one large one alone",
        ours=f"{beside.median_s * 1e3:.0f} ms",
        base=f"{one.median_s * 1e3:.0f} ms",
        ratio=beside.median_s / one.median_s,
        limit=2.0,
    )


def _to_a_listener(enclave: LocalEnclave) -> Row:
    """Seconds until the enclave has proved itself to a listener that starts, with idle peers and without."""

    def arrival_s(*kinds: str) -> float:
        with ExitStack() as stack:
            sock = stack.enter_context(listening(enclave.outbound))
            if kinds:
                stack.enter_context(crowd(enclave.outbound, *kinds))
            started = time.perf_counter()
            events = Listener(sock, lambda: enclave.expectation).events(_TIMEOUT_S)
            next(event for event in events if isinstance(event, Arrived))
            arrived_s = time.perf_counter() - started
            events.close()
            return arrived_s

    base_s, ours_s = (statistics.median(arrival_s(*kinds) for _ in range(5)) for kinds in ((), ("idle=64",)))
    return Row(
        what="an enclave dials a listener that 64 idle peers dial too",
        ours=f"{ours_s:.2f} s",
        base=f"{base_s:.2f} s",
        ratio=ours_s / base_s,
        limit=2.0,
    )
