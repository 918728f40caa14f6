"""The local backend's enclave with the packaged model, for whoever wants to talk to one without the CLI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from enclavectl.backends.base import ProcessSpec
from enclavectl.backends.local.backend import LocalBackend
from enclavectl.client.exchange import Expectation
from enclavectl.models.card import read_card
from enclavectl.models.find import PACKAGED_DIR
from enclavectl.net.address import UnixAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEnclave:
    """Where it listens and dials, and what a client should expect of it."""

    address: UnixAddress
    outbound: UnixAddress
    expectation: Expectation


@contextmanager
def start_local_enclave(folder: Path, *, workers: int = 2, debug: bool = False) -> Iterator[LocalEnclave]:
    """Start an enclave that ends with the block; ``folder`` gets its state."""
    backend = LocalBackend(folder / "state")
    spec = ProcessSpec(
        name=None,
        model=read_card(PACKAGED_DIR / "model.yaml"),
        debug=debug,
        memory_mib=4096,
        workers=workers,
        port_in=5005,
        port_out=5006,
    )
    with backend.start(spec, detached=False) as running:
        policy = backend.policy([running.enclave], allow_debug=False)
        outbound = backend.outbound_address(spec.port_out)
        assert isinstance(running.enclave.address, UnixAddress)
        assert isinstance(outbound, UnixAddress)
        yield LocalEnclave(
            address=running.enclave.address,
            outbound=outbound,
            expectation=Expectation(policy=policy, root=backend.trust_root()),
        )
