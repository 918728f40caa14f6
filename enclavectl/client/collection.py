"""The evidence of an enclave that nobody has judged yet: one session of challenge and evidence alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from enclavectl.client.exchange import new_challenge
from enclavectl.client.session import receive_evidence, while_busy
from enclavectl.net.address import Address
from enclavectl.net.frames import FrameStream
from enclavectl.net.transport import connect
from enclavectl.protocol.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedEvidence:
    """What an enclave answered to a fresh ``nonce``, and when, by this machine's clock. Nothing is judged."""

    evidence: Evidence
    nonce: bytes
    requested_at: datetime
    received_at: datetime


def collect_evidence(address: Address, *, timeout_s: float) -> CollectedEvidence:
    """Ask the enclave at ``address`` for its evidence; nothing but the challenge is sent.

    Raises:
        AttestationError: what answers there gives no evidence.
        EnclaveError: the enclave was lost, busy until ``timeout_s`` was over, or broke the protocol.
        StateError: nothing listens at ``address``.
    """
    deadline = time.monotonic() + timeout_s
    return while_busy(lambda: _collect(address, deadline), deadline)


def _collect(address: Address, deadline: float) -> CollectedEvidence:
    left_s = max(deadline - time.monotonic(), 0.001)
    stream = FrameStream(connect(address, left_s), f"the enclave at {address}")
    try:
        challenge, requested_at = new_challenge(), datetime.now(UTC)
        evidence = receive_evidence(stream, challenge, deadline)
    finally:
        stream.close()
    return CollectedEvidence(
        evidence=evidence, nonce=challenge.nonce, requested_at=requested_at, received_at=datetime.now(UTC)
    )
