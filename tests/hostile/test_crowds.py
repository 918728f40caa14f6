"""Peers that complete no valid request, in any number, do not deny the others.

Every honest request beside the crowd is answered within its time. How much longer it takes is not asserted
here, where the crowd runs on the enclave's processors: ``python -m benchmarks hostile`` prints the ratios.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enclavectl.backends.base import ProcessSpec
from enclavectl.backends.local.backend import LocalBackend
from enclavectl.client.exchange import Expectation
from enclavectl.models.card import read_card
from enclavectl.net.address import UnixAddress
from tests.hostile.honest import crowd, serve_me
from tests.in_process import gray, start_in_process

MODEL = Path(__file__).parents[2] / "enclave_payload" / "model" / "model.yaml"
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
    with local(tmp_path) as (address, expectation):
        assert_served(address, expectation, ("idle=300", "garbage=50"))


def assert_served(address: UnixAddress, expectation: Expectation, kinds: tuple[str, ...]) -> None:
    with crowd(address, *kinds):
        beside = serve_me(address, expectation, gray(1), count=COUNT)
    assert not beside.failures


@contextmanager
def local(folder: Path) -> Iterator[tuple[UnixAddress, Expectation]]:
    """A local enclave with the demonstration model."""
    backend = LocalBackend(folder / "state")
    spec = ProcessSpec(
        name=None,
        model=read_card(MODEL),
        debug=False,
        memory_mib=4096,
        workers=2,
        port_in=5005,
        port_out=5006,
    )
    with backend.start(spec, detached=False) as running:
        policy = backend.policy([running.enclave], allow_debug=False)
        assert isinstance(running.enclave.address, UnixAddress)
        yield running.enclave.address, Expectation(policy=policy, root=backend.trust_root())
