"""The six messages that cross the wire in the clear, and their exact bytes (docs/protocol.md).

Here are the parsers of what clients send and the writers of what enclaves send; ``enclavectl.protocol`` has
the other halves. Every parser takes a whole frame body and raises ``WireError`` for anything but the one
valid form.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from enclave_payload.wire import Buffer, FrameType, WireError, encode_frame

PROTOCOL_VERSION = 1
NONCE_BYTES = 32
SESSION_ID_BYTES = 16
REQUEST_ID_BYTES = SESSION_ID_BYTES + 8

# A document is at most 16 KiB of payload in its envelope; AWS's are 4.4 to 5.5 kB.
MAX_DOCUMENT_BYTES = 32 * 1024
# A card (card.MAX_CARD_BYTES), 1.3 kB of keys and the salt.
MAX_KEY_CONFIG_BYTES = 72 * 1024
# A 16 MiB picture, its padding (at most 1/8, by Padme) and the KEM's overhead stay below this.
MAX_CIPHERTEXT_BYTES = 19 * 1024 * 1024
# What an answer's plaintext is padded to: 64 labels (2.8 kB) and a receipt (0.9 kB) fit; one size, so the
# length says nothing.
ANSWER_PLAINTEXT_BYTES = 4096
ANSWER_CIPHERTEXT_BYTES = ANSWER_PLAINTEXT_BYTES + 16

CHALLENGE_BYTES = 2 + NONCE_BYTES
MAX_EVIDENCE_BYTES = 2 + MAX_DOCUMENT_BYTES + MAX_KEY_CONFIG_BYTES
SEALED_FIELDS_BYTES = 8 + 2
MAX_SEALED_BYTES = SEALED_FIELDS_BYTES + MAX_CIPHERTEXT_BYTES
# An X25519 share, a length, two bytes and a reply key, and a tag. Shorter ones would be so many in one read
# that saying "busy" to each keeps the others waiting.
MIN_SEALED_BYTES = SEALED_FIELDS_BYTES + 32 + 4 + 2 + 32 + 16
ANSWER_BYTES = REQUEST_ID_BYTES + 1 + ANSWER_CIPHERTEXT_BYTES
REFUSAL_BYTES = 2 + REQUEST_ID_BYTES
NO_REQUEST = bytes(REQUEST_ID_BYTES)


class AnswerKind(IntEnum):
    """What an ``Answer`` holds: the last word on a request, or the receipt of one answered elsewhere."""

    FINAL = 0
    RECEIPT = 1


class RefusalCode(IntEnum):
    """Why the enclave will not serve. Sent in the clear, so none says anything of a picture."""

    VERSION = 1  # the challenge names a protocol version that this enclave does not speak
    BUSY = 2  # a bound was reached: connections, requests in flight, or waiting bytes
    UNREADABLE = 3  # a Sealed could not be opened with this session's keys; the session is dead
    REPLAYED = 4  # a request counter did not grow; the session is dead
    STOPPING = 5  # the enclave is shutting down
    PROTOCOL = 6  # the bytes were not this protocol's; the session is dead
    NO_EVIDENCE = 7  # the NSM did not give a document
    SLOW = 8  # a frame, or the next request, did not come in time
    NOT_READY = 9  # the release port: no model was offered yet, or its key is there already


@dataclass(frozen=True, slots=True)
class Challenge:
    """The client's first message: a fresh nonce that the evidence must contain."""

    nonce: bytes
    version: int = PROTOCOL_VERSION


def parse_challenge(body: Buffer) -> Challenge:
    """Read ``u16 version | 32 bytes nonce``, whatever version it names."""
    if len(body) != CHALLENGE_BYTES:
        raise WireError(f"a challenge has {CHALLENGE_BYTES} bytes, not {len(body)}")
    return Challenge(version=int.from_bytes(body[:2], "big"), nonce=bytes(body[2:]))


def evidence_body(document: bytes, key_config: bytes) -> bytes:
    """Write ``u16 length | document | key configuration``, which the transcript hashes."""
    return len(document).to_bytes(2, "big") + document + key_config


@dataclass(frozen=True, slots=True)
class Sealed:
    """One sealed request. ``counter`` grows by any step with each request of a session."""

    counter: int
    suite: int
    ciphertext: Buffer


def parse_sealed(body: Buffer) -> Sealed:
    """Read ``u64 counter | u16 suite | HPKE enc and ciphertext``; the ciphertext is a view, not a copy."""
    if len(body) < MIN_SEALED_BYTES:
        raise WireError("a sealed request is cut short")
    counter, suite = int.from_bytes(body[:8], "big"), int.from_bytes(body[8:SEALED_FIELDS_BYTES], "big")
    return Sealed(counter, suite, body[SEALED_FIELDS_BYTES:])


def answer_frame(request_id: bytes, kind: AnswerKind, ciphertext: bytes) -> bytes:
    """Write ``24 bytes request id | u8 kind | 4112 bytes ciphertext``."""
    return encode_frame(FrameType.ANSWER, request_id, bytes([kind]), ciphertext)


def refusal_frame(code: RefusalCode, request_id: bytes = NO_REQUEST) -> bytes:
    """Write ``u16 code | 24 bytes request id``; an id of zeros refuses the whole connection.

    Unauthenticated: it can only deny service, which the parent can do anyway.
    """
    return encode_frame(FrameType.REFUSAL, code.to_bytes(2, "big"), request_id)


def parse_taken(body: Buffer) -> bytes:
    """Read the id of an answer that the listener has opened; only where the enclave dialed out.

    Unauthenticated: whoever forges it can lose an answer, as the parent can anyway.
    """
    if len(body) != REQUEST_ID_BYTES:
        raise WireError(f"taken: expected {REQUEST_ID_BYTES} bytes, found {len(body)}")
    return bytes(body)


def transcript_hash(challenge_body: Buffer, evidence_body: Buffer) -> bytes:
    """SHA-384 over both opening messages, each behind its u32 length; bound into every request."""
    digest = hashlib.sha384(b"enclavectl transcript v1")
    for body in (challenge_body, evidence_body):
        digest.update(len(body).to_bytes(4, "big"))
        digest.update(body)
    return digest.digest()


def session_id(transcript: bytes) -> bytes:
    """Name the session in 16 bytes that follow from the client's nonce, so that no relay can choose them."""
    return hashlib.sha384(b"enclavectl session v1" + transcript).digest()[:SESSION_ID_BYTES]


def request_id(session: bytes, counter: int) -> bytes:
    """Name a request uniquely over all sessions: its answer may come by another connection."""
    return session + counter.to_bytes(8, "big")
