"""Peers that complete no valid request, in any number, do not deny the others.

Every honest request beside the crowd is answered within its time. How much longer it takes is not asserted
here, where the crowd runs on the enclave's processors: ``python -m benchmarks hostile`` prints the ratios.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.client.exchange import Expectation
from enclavectl.net.address import UnixAddress
from tests.hostile.honest import crowd, serve_me
from tests.in_process import gray, start_in_process
from tests.local_enclave import start_local_enclave

COUNT = 15
CROWDS = [
    ("idle=300",),
    ("garbage=50",),
    ("half=100",),
    ("challenge=60",),
    ("unopened=20",),
    ("unfinished=80",),
    ("idle=300", "garbage=50", "half=20", "unfinished=20"),
]


@pytest.mark.parametrize("kinds", CROWDS, ids="+".join)
def test_the_server_serves_the_others(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    with start_in_process(tmp_path) as enclave:
        assert_served(enclave.address, enclave.expectation, kinds)
        # The console hears of it in a few lines.
        assert len(enclave.log) < 10


def test_a_local_enclave_serves_the_others(tmp_path: Path) -> None:
    with start_local_enclave(tmp_path) as enclave:
        assert_served(enclave.address, enclave.expectation, ("idle=300", "garbage=50"))


def assert_served(address: UnixAddress, expectation: Expectation, kinds: tuple[str, ...]) -> None:
    with crowd(address, *kinds):
        beside = serve_me(address, expectation, gray(1), count=COUNT)
    assert not beside.failures
