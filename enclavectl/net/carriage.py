"""What a relay knows of frames: their types and sizes in each direction, and the refusals that it may speak.

The gateway imports this and no other part of the protocol: it follows frames and cannot open one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from enclave_payload.messages import (
    ANSWER_BYTES,
    CHALLENGE_BYTES,
    MAX_EVIDENCE_BYTES,
    MAX_SEALED_BYTES,
    MIN_SEALED_BYTES,
    NONCE_BYTES,
    PROTOCOL_VERSION,
    REFUSAL_BYTES,
    RefusalCode,
    refusal_frame,
)
from enclave_payload.wire import HEADER_BYTES, FrameType, WireError, encode_frame

__all__ = [
    "CHALLENGE_FRAME_BYTES",
    "FROM_CLIENT",
    "FROM_CLIENT_FIRST",
    "FROM_ENCLAVE",
    "FROM_ENCLAVE_FIRST",
    "HEADER_BYTES",
    "MAX_EVIDENCE_BYTES",
    "NONCE_BYTES",
    "FrameType",
    "RefusalCode",
    "Sizes",
    "WireError",
    "encode_challenge",
    "refusal_frame",
]

# The fewest and the most bytes that the body of each type may have.
Sizes = Mapping[FrameType, tuple[int, int]]

_REFUSAL = {FrameType.REFUSAL: (REFUSAL_BYTES, REFUSAL_BYTES)}
# The evidence is a size, a document and a key configuration, of which no part is empty.
_MIN_EVIDENCE_BYTES = 4

FROM_CLIENT_FIRST: Sizes = MappingProxyType({FrameType.CHALLENGE: (CHALLENGE_BYTES, CHALLENGE_BYTES)})
FROM_CLIENT: Sizes = MappingProxyType({FrameType.SEALED: (MIN_SEALED_BYTES, MAX_SEALED_BYTES)})
FROM_ENCLAVE_FIRST: Sizes = MappingProxyType(
    {FrameType.EVIDENCE: (_MIN_EVIDENCE_BYTES, MAX_EVIDENCE_BYTES), **_REFUSAL}
)
FROM_ENCLAVE: Sizes = MappingProxyType({FrameType.ANSWER: (ANSWER_BYTES, ANSWER_BYTES), **_REFUSAL})

CHALLENGE_FRAME_BYTES = HEADER_BYTES + CHALLENGE_BYTES


def encode_challenge(nonce: bytes) -> bytes:
    """Write the frame that asks an enclave for evidence, with 32 random bytes."""
    return encode_frame(FrameType.CHALLENGE, PROTOCOL_VERSION.to_bytes(2, "big"), nonce)
