"""The evidence of an enclave that nobody has judged yet: one session of challenge and evidence alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from enclavectl.client.exchange import new_challenge
from enclavectl.client.reconnection import Reconnections, keep_trying
from enclavectl.client.session import receive_evidence
from enclavectl.net.access import NO_ACCESS, Access
from enclavectl.net.address import Address, is_network
from enclavectl.net.frames import FrameStream
from enclavectl.net.transport import open_stream
from enclavectl.protocol.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedEvidence:
    """What an enclave answered to a fresh ``nonce``, and when, by this machine's clock. Nothing is judged."""

    evidence: Evidence
    nonce: bytes
    requested_at: datetime
    received_at: datetime


def collect_evidence(address: Address, *, timeout_s: float, access: Access = NO_ACCESS) -> CollectedEvidence:
    """Ask the enclave at ``address`` for its evidence; nothing but the challenge is sent.

    ``access`` has what a gateway demands.

    Raises:
        AttestationError: what answers there gives no evidence.
        EnclaveError: the enclave was lost, busy until ``timeout_s`` was over, or broke the protocol.
        StateError: nothing listens at ``address``.
    """
    deadline = time.monotonic() + timeout_s
    left = Reconnections() if is_network(address) else None
    return keep_trying(lambda: _collect(address, access, deadline), deadline, left)


def _collect(address: Address, access: Access, deadline: float) -> CollectedEvidence:
    left_s = max(deadline - time.monotonic(), 0.001)
    stream = FrameStream(
        open_stream(address, left_s, access), f"the enclave at {address}", is_remote=is_network(address)
    )
    try:
        challenge, requested_at = new_challenge(), datetime.now(UTC)
        evidence = receive_evidence(stream, challenge, deadline)
    finally:
        stream.close()
    return CollectedEvidence(
        evidence=evidence, nonce=challenge.nonce, requested_at=requested_at, received_at=datetime.now(UTC)
    )
