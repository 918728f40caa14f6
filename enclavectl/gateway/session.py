"""One client's conversation with one enclave, as the relay sees it: frames, deadlines, ends. No I/O.

A session follows both directions and hands bytes on. It ends both halves together. Its clock is the caller's.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from websockets.frames import CloseCode

from enclavectl.config.gateway import GatewayConfig
from enclavectl.gateway.admission import Identity, Ticket
from enclavectl.gateway.following import follow_client, follow_enclave
from enclavectl.gateway.routing import Enclave
from enclavectl.gateway.tally import Carrier, Outcome, Tally
from enclavectl.net.carriage import CHALLENGE_FRAME_BYTES, FrameType, RefusalCode, WireError, refusal_frame

# Requests whose start is remembered, for the histogram; an enclave keeps 32 of a connection in flight.
_MAX_TIMES = 64


_CLOSE_CODES = {
    RefusalCode.BUSY: CloseCode.TRY_AGAIN_LATER,
    RefusalCode.STOPPING: CloseCode.SERVICE_RESTART,
    RefusalCode.PROTOCOL: CloseCode.POLICY_VIOLATION,
    RefusalCode.SLOW: CloseCode.POLICY_VIOLATION,
}


class HalfEnd(Protocol):
    """One side's connection, as a session uses it."""

    def send(self, data: bytes) -> None:
        """Send bytes, or keep them until the peer reads."""

    def hold(self, *, is_held: bool) -> None:
        """Stop reading from this side, or go on."""

    def close(self, last: bytes = b"", code: int = CloseCode.NORMAL_CLOSURE) -> None:
        """Send the last bytes and end the connection."""

    def abort(self) -> None:
        """End the connection at once; what was not sent is lost."""


class Stage(Enum):
    """How far a session is."""

    CHALLENGE = auto()  # the client has not said its whole challenge: no enclave knows of it
    CONNECTING = auto()
    OPEN = auto()
    ENDED = auto()


class Hold(Enum):
    """Why a side is not read from."""

    CONNECTING = auto()
    PEER_FULL = auto()
    RATE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Who a client is, how it came, and the release that it asked for."""

    carrier: Carrier
    identity: Identity
    address: str
    release: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """What every session of a gateway shares. ``route`` finds a place and an enclave for a session."""

    limits: GatewayConfig
    tally: Tally
    clock: Callable[[], float]
    route: Callable[[Session], None]
    ended: Callable[[Session, Outcome], None]


class Session:
    """The relay of one connection. A client speaks first; an enclave is taken once its challenge is whole."""

    def __init__(self, context: SessionContext, client: HalfEnd, guest: Guest) -> None:
        self._context = context
        self._client = client
        self._ticket: Ticket | None = None
        self._link: HalfEnd | None = None
        self._early = b""
        self._holds: set[Hold] = set()
        self._times: deque[float] = deque(maxlen=_MAX_TIMES)
        self._rate_until = 0.0
        self._held_since: float | None = None
        self._held_in_frame = 0.0
        # Since when a side does not take what is there for it.
        self._client_full_since: float | None = None
        self._enclave_full_since: float | None = None
        self._last_byte_at = self.began_at = context.clock()
        self.id = secrets.token_hex(8)
        self.guest = guest
        self.enclave: Enclave | None = None
        self.stage = Stage.CHALLENGE
        self.is_draining = False
        self.in_flight = 0
        self.requests = 0
        self.up = follow_client()
        self.down = follow_enclave()

    @property
    def is_admitted(self) -> bool:
        """True once the session has been given a place, to its end and after."""
        return self._ticket is not None

    # From the client

    def from_client(self, data: bytes) -> None:
        """Follow and hand on what the client sent."""
        now = self._context.clock()
        self._last_byte_at = now
        if self.stage is Stage.ENDED:
            return
        before = self.up.began_at, self.up.is_mid_frame
        try:
            if self.is_draining:
                # Only what completes a frame goes on; the client keeps the rest for its next connection.
                count, ended = self.up.finish(data, now)
                data = data[:count]
            else:
                ended = self.up.feed(data, now)
        except WireError:
            self.refuse(RefusalCode.PROTOCOL, Outcome.PROTOCOL)
            return
        if before != (self.up.began_at, self.up.is_mid_frame):
            self._held_in_frame = 0.0
        if self._link is None:
            self._open(data)
        elif data and not self.down.frames[FrameType.EVIDENCE]:
            # Nothing may come between challenge and evidence, docs/protocol.md.
            self.refuse(RefusalCode.PROTOCOL, Outcome.PROTOCOL)
        else:
            self._link.send(data)
            self._count_requests(ended.count(FrameType.SEALED), now)
            self._end_drained()

    def _open(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > CHALLENGE_FRAME_BYTES:
            self.refuse(RefusalCode.PROTOCOL, Outcome.PROTOCOL)
        elif len(self._early) == CHALLENGE_FRAME_BYTES and self.stage is Stage.CHALLENGE:
            self.stage = Stage.CONNECTING
            self._hold(Hold.CONNECTING)
            self._context.route(self)

    def _count_requests(self, count: int, now: float) -> None:
        if not count or self.enclave is None:
            return
        self.requests += count
        self.in_flight += count
        self.enclave.in_flight += count
        self._times.extend([now] * count)
        wait_s = 0.0 if self._ticket is None else self._ticket.take_requests(count, now)
        if wait_s > 0:
            self._rate_until = now + wait_s
            self._hold(Hold.RATE)

    def client_can_write(self, *, is_full: bool) -> None:
        """Say that the client takes no more for now, or that it does again: then the enclave is read."""
        self._client_full_since = self._context.clock() if is_full else None
        if self._link is not None:
            self._link.hold(is_held=is_full)

    def end_for_protocol(self) -> None:
        """End the session of a client that broke the carrier's rules; the carrier says so itself."""
        self._finish(Outcome.PROTOCOL)
        self._abort_link()

    def client_lost(self) -> None:
        """End the session, whose client has gone."""
        is_served = self.requests > 0 and not self.in_flight and not self.up.is_mid_frame
        self._finish(Outcome.SERVED if is_served else Outcome.LEFT)
        self._abort_link()

    # From the enclave

    def admitted(self, ticket: Ticket) -> None:
        """Keep the place that this session was given; its end gives the place back."""
        self._ticket = ticket

    def connected(self, enclave: Enclave, link: HalfEnd) -> None:
        """Begin to relay; what the client has said goes first."""
        if self.stage is not Stage.CONNECTING:
            link.abort()
            return
        self.stage = Stage.OPEN
        self.enclave, self._link = enclave, link
        enclave.sessions += 1
        link.send(self._early)
        self._release(Hold.CONNECTING)

    def from_enclave(self, data: bytes) -> None:
        """Follow and hand on what the enclave sent."""
        now = self._context.clock()
        self._last_byte_at = now
        if self.stage is Stage.ENDED:
            return
        try:
            ended = self.down.feed(data, now)
        except WireError:
            self._close(b"", CloseCode.INTERNAL_ERROR, Outcome.ENCLAVE_ENDED)
            return
        self._client.send(data)
        for kind in ended:
            if kind is FrameType.REFUSAL:
                self._context.tally.refuse("enclave", self.down.refusal_code or 0)
            if kind is not FrameType.EVIDENCE and self.in_flight and self.enclave is not None:
                self._count_answer(self.enclave, now, is_answer=kind is FrameType.ANSWER)
        self._end_drained()

    def _count_answer(self, enclave: Enclave, now: float, *, is_answer: bool) -> None:
        self.in_flight -= 1
        enclave.in_flight -= 1
        # Answers come in any order and their ids are not read: the oldest request stands for each. The sum of
        # all times is exact.
        if self._times and (began_at := self._times.popleft()) and is_answer:
            self._context.tally.observe_request(enclave.destination.release, now - began_at)

    def enclave_can_write(self, *, is_full: bool) -> None:
        """Say that the enclave takes no more for now, or that it does again: then the client is read."""
        self._enclave_full_since = self._context.clock() if is_full else None
        if is_full:
            self._hold(Hold.PEER_FULL)
        else:
            self._release(Hold.PEER_FULL)

    def enclave_lost(self) -> None:
        """End the session, whose enclave has closed; say so if the enclave itself did not."""
        if self.stage is Stage.ENDED:
            return
        code = self.down.refusal_code
        if code is not None and not self.down.is_mid_frame and code != RefusalCode.STOPPING:
            known = RefusalCode(code) if code in _CLOSE_CODES else RefusalCode.PROTOCOL
            self._close(b"", _CLOSE_CODES[known], Outcome.ENCLAVE_REFUSED)
            return
        if self.enclave is not None:
            self.enclave.suspect()
        if code == RefusalCode.STOPPING:
            self._close(b"", CloseCode.SERVICE_RESTART, Outcome.ENCLAVE_ENDED)
        else:
            self.refuse(RefusalCode.STOPPING, Outcome.ENCLAVE_ENDED)

    # Deadlines and ends

    def check(self, now: float) -> None:
        """End the session if a deadline has passed; let a client that was held for its rate go on."""
        if self.stage is Stage.ENDED:
            return
        limits = self._context.limits
        if Hold.RATE in self._holds and now >= self._rate_until:
            self._release(Hold.RATE)
        if self._is_over(self._client_full_since, now):
            # It takes nothing, so a refusal would not reach it.
            self._finish(Outcome.SLOW)
            self._client.abort()
            self._abort_link()
        elif self._is_over(self._enclave_full_since, now):
            if self.enclave is not None:
                self.enclave.suspect()
            self.refuse(RefusalCode.BUSY, Outcome.ENCLAVE_ENDED)
        elif self._is_slow(now):
            self.refuse(RefusalCode.SLOW, Outcome.SLOW)
        elif now - self.began_at > limits.session_s and not self.is_draining:
            self.drain()

    def _is_over(self, since: float | None, now: float) -> bool:
        return since is not None and now - since > self._context.limits.write_s

    def _is_slow(self, now: float) -> bool:
        limits = self._context.limits
        if self.stage is Stage.CHALLENGE:
            return now - self.began_at > limits.first_frame_s
        if now - self._last_byte_at > limits.idle_s:
            return True
        if not self.up.is_mid_frame:
            return False
        # Time in which we did not read is not the client's.
        held = self._held_in_frame + (now - self._held_since if self._held_since is not None else 0.0)
        elapsed = now - self.up.began_at - held
        due = (elapsed - limits.frame_grace_s) * limits.frame_rate
        return elapsed > limits.frame_s or self.up.frame_bytes < due

    def drain(self) -> None:
        """Take no further request; end once the answers under way are through."""
        self.is_draining = True
        self._end_drained()

    def _end_drained(self) -> None:
        if (
            self.is_draining
            and not self.in_flight
            and not self.up.is_mid_frame
            and not self.down.is_mid_frame
        ):
            self.refuse(RefusalCode.STOPPING, Outcome.STOPPING)

    def refuse(self, code: RefusalCode, outcome: Outcome) -> None:
        """End the session with a refusal, where one may stand, and the close code that says the same."""
        last = b"" if self.down.is_mid_frame else refusal_frame(code)
        if last:
            self._context.tally.refuse("gateway", code)
        self._close(last, _CLOSE_CODES[code], outcome)

    def _close(self, last: bytes, code: CloseCode, outcome: Outcome) -> None:
        if self.stage is Stage.ENDED:
            return
        self._finish(outcome)
        self._client.hold(is_held=False)
        self._client.close(last, code)
        self._abort_link()

    def _abort_link(self) -> None:
        if self._link is not None:
            self._link.abort()

    def _finish(self, outcome: Outcome) -> None:
        if self.stage is Stage.ENDED:
            return
        self.stage = Stage.ENDED
        if self.enclave is not None:
            self.enclave.sessions -= 1
            self.enclave.in_flight -= self.in_flight
        self._early = b""
        if self._ticket is not None:
            self._ticket.leave()
        self._context.ended(self, outcome)

    def _hold(self, why: Hold) -> None:
        if not self._holds:
            self._client.hold(is_held=True)
            self._held_since = self._context.clock()
        self._holds.add(why)

    def _release(self, why: Hold) -> None:
        self._holds.discard(why)
        if not self._holds and self._held_since is not None:
            self._held_in_frame += self._context.clock() - self._held_since
            self._held_since = None
            self._client.hold(is_held=False)
