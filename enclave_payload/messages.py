"""The six messages that cross the wire in the clear, and their exact bytes (docs/protocol.md).

Every parser takes a whole frame body and raises ``WireError`` for anything but the one valid form.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from enclave_payload.wire import Buffer, FrameType, WireError, encode_frame, frame_header

PROTOCOL_VERSION = 1
NONCE_BYTES = 32
SESSION_ID_BYTES = 16
REQUEST_ID_BYTES = SESSION_ID_BYTES + 8

# A document is at most 16 KiB of payload in its envelope; AWS's are 4.4 to 5.5 kB.
MAX_DOCUMENT_BYTES = 32 * 1024
# A card (card.MAX_CARD_BYTES) and 1.3 kB of keys.
MAX_KEY_CONFIG_BYTES = 20 * 1024
# A 16 MiB picture, its padding (at most 1/8: seal.padme) and the KEM's overhead stay below this.
MAX_CIPHERTEXT_BYTES = 19 * 1024 * 1024
# What an answer's plaintext is padded to: 64 labels fit with room; one size, so the length says nothing.
ANSWER_PLAINTEXT_BYTES = 4096
ANSWER_CIPHERTEXT_BYTES = ANSWER_PLAINTEXT_BYTES + 16

CHALLENGE_BYTES = 2 + NONCE_BYTES
MAX_EVIDENCE_BYTES = SESSION_ID_BYTES + 2 + MAX_DOCUMENT_BYTES + MAX_KEY_CONFIG_BYTES
MAX_SEALED_BYTES = 8 + 2 + MAX_CIPHERTEXT_BYTES
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


@dataclass(frozen=True, slots=True)
class Challenge:
    """The client's first word: prove who you are, freshly."""

    nonce: bytes
    version: int = PROTOCOL_VERSION

    def to_frame(self) -> bytes:
        """``u16 version | 32 bytes nonce``."""
        return encode_frame(FrameType.CHALLENGE, self.to_body())

    def to_body(self) -> bytes:
        """The frame's body, which the transcript hashes."""
        return self.version.to_bytes(2, "big") + self.nonce


def parse_challenge(body: Buffer) -> Challenge:
    """The challenge, whatever version it names."""
    if len(body) != CHALLENGE_BYTES:
        raise WireError(f"a challenge has {CHALLENGE_BYTES} bytes, not {len(body)}")
    return Challenge(version=int.from_bytes(body[:2], "big"), nonce=bytes(body[2:]))


@dataclass(frozen=True, slots=True)
class Evidence:
    """The enclave's proof: an attestation document that commits to ``key_config`` and the nonce.

    ``session_id`` is 16 random bytes; with it in the transcript no two sessions share a request key,
    not even where documents repeat (an NSM without a signature and with a clock of whole seconds).
    """

    session_id: bytes
    document: bytes
    key_config: bytes

    def to_frame(self) -> bytes:
        """``16 bytes session id | u16 length | document | key configuration``."""
        return encode_frame(FrameType.EVIDENCE, self.to_body())

    def to_body(self) -> bytes:
        """The frame's body, which the transcript hashes."""
        return self.session_id + len(self.document).to_bytes(2, "big") + self.document + self.key_config


def parse_evidence(body: Buffer) -> Evidence:
    """The evidence, unverified: only ``enclavectl.attestation.verify`` makes it worth anything."""
    start = SESSION_ID_BYTES + 2
    if len(body) < start:
        raise WireError("evidence is cut short")
    end = start + int.from_bytes(body[SESSION_ID_BYTES:start], "big")
    if not 0 < end - start <= MAX_DOCUMENT_BYTES or not 0 < len(body) - end <= MAX_KEY_CONFIG_BYTES:
        raise WireError("evidence: the document or the key configuration is missing or too long")
    return Evidence(bytes(body[:SESSION_ID_BYTES]), bytes(body[start:end]), bytes(body[end:]))


@dataclass(frozen=True, slots=True)
class Sealed:
    """One sealed request. ``counter`` grows by any step with each request of a session."""

    counter: int
    suite: int
    ciphertext: Buffer

    def to_frame(self) -> bytes:
        """``u64 counter | u16 suite | HPKE enc and ciphertext``."""
        return b"".join(self.to_parts())

    def to_parts(self) -> tuple[bytes, Buffer]:
        """The frame up to the ciphertext, and the ciphertext: a picture is not copied to be sent."""
        fields = self.counter.to_bytes(8, "big") + self.suite.to_bytes(2, "big")
        return frame_header(FrameType.SEALED, len(fields) + len(self.ciphertext)) + fields, self.ciphertext


def parse_sealed(body: Buffer) -> Sealed:
    """The request, still sealed; its ciphertext is a part of ``body``, not a copy."""
    if len(body) <= 10:
        raise WireError("a sealed request is cut short")
    return Sealed(int.from_bytes(body[:8], "big"), int.from_bytes(body[8:10], "big"), body[10:])


@dataclass(frozen=True, slots=True)
class Answer:
    """One sealed answer of constant size."""

    request_id: bytes
    kind: AnswerKind
    ciphertext: bytes

    def to_frame(self) -> bytes:
        """``24 bytes request id | u8 kind | 4112 bytes ciphertext``."""
        return encode_frame(FrameType.ANSWER, self.request_id, bytes([self.kind]), self.ciphertext)


def parse_answer(body: Buffer) -> Answer:
    """The answer, still sealed."""
    if len(body) != ANSWER_BYTES or body[REQUEST_ID_BYTES] not in set(AnswerKind):
        raise WireError(f"an answer has {ANSWER_BYTES} bytes and kind 0 or 1")
    kind = AnswerKind(body[REQUEST_ID_BYTES])
    return Answer(bytes(body[:REQUEST_ID_BYTES]), kind, bytes(body[REQUEST_ID_BYTES + 1 :]))


@dataclass(frozen=True, slots=True)
class Refusal:
    """No, in the clear and unauthenticated: it can deny service, which the parent can do anyway."""

    code: RefusalCode
    request_id: bytes = NO_REQUEST

    def to_frame(self) -> bytes:
        """``u16 code | 24 bytes request id``; an id of zeros refuses the whole connection."""
        return encode_frame(FrameType.REFUSAL, self.code.to_bytes(2, "big"), self.request_id)


def parse_refusal(body: Buffer) -> Refusal:
    """The refusal; an unknown code is an error, since no version-1 enclave sends one."""
    code = int.from_bytes(body[:2], "big")
    if len(body) != REFUSAL_BYTES or code not in set(RefusalCode):
        raise WireError(f"a refusal has {REFUSAL_BYTES} bytes and a known code")
    return Refusal(RefusalCode(code), bytes(body[2:]))


@dataclass(frozen=True, slots=True)
class Taken:
    """The listener has opened this answer; the enclave may forget it. Only where the enclave dialed out."""

    request_id: bytes

    def to_frame(self) -> bytes:
        """``24 bytes request id``."""
        return encode_frame(FrameType.TAKEN, self.request_id)


def parse_taken(body: Buffer) -> Taken:
    """The confirmation. Unauthenticated: who forges it can lose an answer, as the parent can anyway."""
    if len(body) != REQUEST_ID_BYTES:
        raise WireError(f"taken: expected {REQUEST_ID_BYTES} bytes, found {len(body)}")
    return Taken(bytes(body))


def request_id(session_id: bytes, counter: int) -> bytes:
    """Unique over all sessions, so that an answer can come by another connection than its request."""
    return session_id + counter.to_bytes(8, "big")


def request_counter(request_id: bytes) -> int:
    """The counter in a request id."""
    return int.from_bytes(request_id[SESSION_ID_BYTES:], "big")


def transcript_hash(challenge_body: bytes, evidence_body: bytes) -> bytes:
    """SHA-384 over both opening messages, each behind its u32 length; bound into every request."""
    digest = hashlib.sha384(b"enclavectl transcript v1")
    for body in (challenge_body, evidence_body):
        digest.update(len(body).to_bytes(4, "big"))
        digest.update(body)
    return digest.digest()
