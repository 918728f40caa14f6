"""The opening of a session: the challenge that a client sends, and the evidence that it gets."""

from __future__ import annotations

from dataclasses import dataclass

from enclave_payload.messages import (
    MAX_DOCUMENT_BYTES,
    MAX_EVIDENCE_BYTES,
    MAX_KEY_CONFIG_BYTES,
    NONCE_BYTES,
    Challenge,
    evidence_body,
    session_id,
    transcript_hash,
)
from enclave_payload.wire import Buffer, FrameType, WireError, encode_frame

__all__ = [
    "MAX_EVIDENCE_BYTES",
    "NONCE_BYTES",
    "Challenge",
    "Evidence",
    "challenge_body",
    "challenge_frame",
    "parse_evidence",
    "session_id",
    "transcript_hash",
]


def challenge_body(challenge: Challenge) -> bytes:
    """Write ``u16 version | 32 bytes nonce``, which the transcript hashes."""
    return challenge.version.to_bytes(2, "big") + challenge.nonce


def challenge_frame(challenge: Challenge) -> bytes:
    """Write the session's first message."""
    return encode_frame(FrameType.CHALLENGE, challenge_body(challenge))


@dataclass(frozen=True, slots=True)
class Evidence:
    """An attestation document that commits to ``key_config`` and the client's nonce."""

    document: bytes
    key_config: bytes

    def to_body(self) -> bytes:
        """Write the frame's body, which the transcript hashes."""
        return evidence_body(self.document, self.key_config)


def parse_evidence(body: Buffer) -> Evidence:
    """Read the evidence without verifying it; only ``enclavectl.attestation.verify`` does that.

    Raises:
        WireError: a part is missing or over its limit.
    """
    end = 2 + int.from_bytes(body[:2], "big")
    if (
        not 2 < end <= min(len(body), 2 + MAX_DOCUMENT_BYTES)
        or not 0 < len(body) - end <= MAX_KEY_CONFIG_BYTES
    ):
        raise WireError("evidence: the document or the key configuration is missing or too long")
    return Evidence(bytes(body[2:end]), bytes(body[end:]))
