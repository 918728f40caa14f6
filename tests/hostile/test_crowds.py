"""Peers that complete no valid request, in any number, do not deny the others.

Every honest request beside the crowd is answered within its time. How much longer it takes is not asserted
here, where the crowd runs on the enclave's processors: ``python -m benchmarks hostile`` prints the ratios.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.client.exchange import Expectation
from enclavectl.net.address import Address, parse_address
from tests.e2e.cli import sample
from tests.hostile.honest import crowd, serve_me
from tests.in_process import gray, start_in_process
from tests.local_enclave import start_local_enclave
from tests.nitro.cli import NitroCli
from tests.nitro.host import fake_host

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


def test_an_enclave_of_a_nitro_host_serves_the_others(tmp_path: Path) -> None:
    """Through the fake nitro-cli, a keeper and vsock: what stands between adds no bound of its own."""
    with fake_host(tmp_path / "host") as host:
        (tmp_path / "home").mkdir()
        cli = NitroCli(tmp_path, host=host)
        machine = cli.ok("run", host.eif, "--name", "busy", "-o", "json").json()
        address = parse_address(machine["enclave"]["address"])
        with crowd(address, "idle=200", "garbage=30"):
            answer = cli.ok("diagnose", sample("nv"), "-o", "json").json()
            assert answer["results"][0]["label"]["code"] == "nv"
        cli.ok("terminate", "busy")


def assert_served(address: Address, expectation: Expectation, kinds: tuple[str, ...]) -> None:
    with crowd(address, *kinds):
        beside = serve_me(address, expectation, gray(1), count=COUNT)
    assert not beside.failures
