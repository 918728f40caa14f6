"""The enclave's half of a session: sans-I/O, bytes in, events out.

::

    CHALLENGE --challenge--> ATTESTING --evidence()--> OPEN --sealed, or taken--> OPEN
        any error at any time --> DEAD, and every later call raises again

The server does what an event asks for and sends what it returns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from itertools import count

from enclave_payload.contents import ContentError, Request, parse_request
from enclave_payload.messages import (
    CHALLENGE_BYTES,
    MAX_SEALED_BYTES,
    PROTOCOL_VERSION,
    REQUEST_ID_BYTES,
    RefusalCode,
    evidence_body,
    parse_challenge,
    parse_sealed,
    parse_taken,
    request_id,
    session_id,
    transcript_hash,
)
from enclave_payload.seal import EnclaveKeys, SealError, request_info
from enclave_payload.wire import Buffer, Frame, FrameReader, FrameType, WireError, encode_frame


class SessionError(Exception):
    """The session is dead; ``code`` is the refusal to send before closing."""

    def __init__(self, code: RefusalCode, request_id: bytes | None = None) -> None:
        super().__init__(code.name)
        self.code = code
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class ChallengeReceived:
    """Get a document over this nonce, then call ``EnclaveSession.evidence``."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class AttestedSession:
    """The session as its attestation document has it, for receipts: the nonce, and the document's hash.

    ``numbers`` counts its receipts from 1: a count of all sessions would tell each client of the others.
    """

    nonce: bytes
    document_sha256: bytes
    numbers: Iterator[int] = field(default_factory=partial(count, 1), compare=False)


@dataclass(frozen=True, slots=True)
class SealedReceived:
    """A request of this session, not yet opened. ``info`` is what it must be bound to."""

    request_id: bytes
    suite: int
    ciphertext: Buffer
    info: bytes
    session: AttestedSession


@dataclass(frozen=True, slots=True)
class TakenReceived:
    """The listener has this answer."""

    request_id: bytes


Event = ChallengeReceived | SealedReceived | TakenReceived


class _State(Enum):
    CHALLENGE = auto()
    ATTESTING = auto()
    OPEN = auto()
    DEAD = auto()


class EnclaveSession:
    """One connection's state. Used by one thread at a time."""

    def __init__(self, *, accepts_requests: bool = True) -> None:
        """``accepts_requests`` is false where the enclave dialed out: it proves itself and delivers."""
        self.accepts_requests = accepts_requests
        self._reader = FrameReader({FrameType.CHALLENGE: CHALLENGE_BYTES})
        self._state = _State.CHALLENGE
        self._error: SessionError | None = None
        self._challenge_body = b""
        self._attested = AttestedSession(b"", b"")
        self._transcript = b""
        self._id = b""
        self._last_counter = -1

    @property
    def is_mid_frame(self) -> bool:
        """True while part of a frame has arrived: the frame's deadline runs, not the idle one."""
        return self._reader.is_mid_frame

    @property
    def held_bytes(self) -> int:
        """The memory of the part of a frame that has arrived."""
        return self._reader.held_bytes

    def receive(self, data: bytes) -> list[Event]:
        """Take what the stream brought and return the events in it, in order.

        Raises:
            SessionError: the peer broke the protocol. The session is dead.
        """
        if self._error is not None:
            raise self._error
        self._reader.feed(data)
        return self._events()

    def room(self) -> memoryview | None:
        """Return where more of a large request belongs (``FrameReader.room``), or None for ``receive``."""
        return self._reader.room()

    def filled(self, count: int) -> list[Event]:
        """Count the bytes that the stream brought into ``room``; otherwise as ``receive``.

        Raises:
            SessionError: as ``receive``.
        """
        self._reader.filled(count)
        return self._events()

    def _events(self) -> list[Event]:
        events: list[Event] = []
        try:
            # While attesting nothing more is read: a peer that does not wait breaks the protocol.
            while (frame := self._reader.next_frame()) is not None:
                events.append(self._on_frame(frame))
        except WireError as exc:
            raise self._dead(SessionError(RefusalCode.PROTOCOL)) from exc
        return events

    def evidence(self, document: bytes, key_config: bytes) -> bytes:
        """Open the session and return the evidence frame to send; requests are accepted from here on."""
        if self._state is not _State.ATTESTING:
            raise RuntimeError("evidence() without a challenge")
        body = evidence_body(document, key_config)
        nonce = parse_challenge(self._challenge_body).nonce
        self._attested = AttestedSession(nonce, hashlib.sha256(document).digest())
        self._transcript = transcript_hash(self._challenge_body, body)
        self._id = session_id(self._transcript)
        self._state = _State.OPEN
        if self.accepts_requests:
            self._reader.limits = {FrameType.SEALED: MAX_SEALED_BYTES}
        else:
            self._reader.limits = {FrameType.TAKEN: REQUEST_ID_BYTES}
        return encode_frame(FrameType.EVIDENCE, body)

    def _on_frame(self, frame: Frame) -> Event:
        if frame.type is FrameType.CHALLENGE:
            return self._on_challenge(frame.body)
        if frame.type is FrameType.TAKEN:
            return TakenReceived(parse_taken(frame.body))
        return self._on_sealed(frame.body)

    def _on_challenge(self, body: Buffer) -> ChallengeReceived:
        challenge = parse_challenge(body)
        if challenge.version != PROTOCOL_VERSION:
            raise self._dead(SessionError(RefusalCode.VERSION))
        self._challenge_body = bytes(body)
        self._state = _State.ATTESTING
        self._reader.limits = {}
        return ChallengeReceived(challenge.nonce)

    def _on_sealed(self, body: Buffer) -> SealedReceived:
        sealed = parse_sealed(body)
        this_id = request_id(self._id, sealed.counter)
        # The stream is ordered, so a counter that must grow refuses every replay in constant memory.
        if sealed.counter <= self._last_counter:
            raise self._dead(SessionError(RefusalCode.REPLAYED, this_id))
        self._last_counter = sealed.counter
        info = request_info(sealed.suite, this_id, self._transcript)
        return SealedReceived(this_id, sealed.suite, sealed.ciphertext, info, self._attested)

    def _dead(self, error: SessionError) -> SessionError:
        self._state = _State.DEAD
        self._error = error
        return error


def open_request(keys: EnclaveKeys, sealed: SealedReceived) -> Request:
    """Open the request. A pure function: worker threads run it in parallel.

    Raises:
        SessionError: it was not sealed for this session, or holds no valid request.
    """
    try:
        return parse_request(keys.open(sealed.suite, sealed.ciphertext, sealed.info))
    except (SealError, ContentError) as exc:
        raise SessionError(RefusalCode.UNREADABLE, sealed.request_id) from exc
