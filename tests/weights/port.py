"""A release port over a Unix socket, around a simulated NSM: what an enclave without weights has."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from enclave_payload.card import MODEL_PCR, ModelCard, model_register
from enclave_payload.key_holder import pin_model
from enclave_payload.nsm import Nsm
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.release import Hooks, ReleaseFailed, ReleasePort
from enclave_payload.seal import generate_keys
from enclavectl.attestation import Policy, Release, Trust, TrustRoot
from enclavectl.backends.local.nsm import SimulatedNsm
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.client.exchange import Expectation
from enclavectl.net.address import UnixAddress
from tests.in_process import MODULE_ID, PCRS
from tests.weights.sealing import SEALED_CARD

KEYS = generate_keys()


@dataclass
class Port:
    """Where the port listens, and what came of it."""

    address: UnixAddress
    nsm: Nsm
    log: list[str] = field(default_factory=list)
    leases: list[int] = field(default_factory=list)
    weights: bytearray = field(default_factory=bytearray)
    failures: list[ReleaseFailed] = field(default_factory=list)
    loaded: threading.Event = field(default_factory=threading.Event)
    drained: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def release_port(
    folder: Path, root: DevelopmentRoot, *, pcrs: dict[int, bytes] | None = None, is_pinning: bool = True
) -> Iterator[Port]:
    """Serve a port in ``folder``; ``is_pinning`` false: of a runtime that forgets to measure."""
    nsm = Nsm(SimulatedNsm(root, MODULE_ID, pcrs or PCRS, lambda: datetime.now(UTC)).handle)
    port = Port(UnixAddress(folder / "release.sock"), nsm)

    def receive(card: ModelCard) -> socket.socket:
        assert card == SEALED_CARD
        ours, theirs = socket.socketpair()
        threading.Thread(target=_drain, args=(theirs, port), daemon=True).start()
        return ours

    def pin(card: ModelCard) -> None:
        if is_pinning:
            pin_model(nsm, card)

    hooks = Hooks(pin=pin, receive=receive, lease=port.leases.append, log=port.log.append)
    signer = ReceiptSigner(nsm.describe, is_device=False)
    serving = ReleasePort(nsm, KEYS, signer, hooks, wait_s=0)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(port.address.path))
    listener.listen()

    def run() -> None:
        try:
            serving.wait_for_weights(listener)
            assert port.drained.wait(60)  # as an enclave waits until the model is loaded
            port.loaded.set()
            serving.serve(listener)
        except ReleaseFailed as exc:
            port.failures.append(exc)
        except OSError as exc:
            port.log.append(f"the test is over: {exc}")
        finally:
            port.ended.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        yield port
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _drain(sock: socket.socket, port: Port) -> None:
    with sock:
        while data := sock.recv(64 * 1024):
            port.weights += data
    port.drained.set()


def expectation(
    root: DevelopmentRoot, *, pcrs: dict[int, bytes] | None = None, accept: Trust = Trust.SIMULATED
) -> Expectation:
    """What the owner of the model demands: the whole tuple."""
    registers = {**(pcrs or PCRS), MODEL_PCR: model_register(SEALED_CARD.to_json())}
    return Expectation(
        policy=Policy(accept=frozenset({accept}), releases=(Release(name="runtime", pcrs=registers),)),
        root=TrustRoot.from_pem(root.certificate_pem, trust=Trust.SIMULATED, name="test root"),
    )
