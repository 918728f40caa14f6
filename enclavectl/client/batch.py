"""Many pictures through one session, or through several if an enclave is lost, with a reply for each."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from enclavectl.client.exchange import CheckedAnswer
from enclavectl.client.pictures import Picture
from enclavectl.client.reconnection import jittered
from enclavectl.client.session import Client
from enclavectl.errors import (
    AttestationError,
    EnclaveBusy,
    EnclavectlError,
    EnclaveError,
    EnclaveLost,
    PictureRefused,
)
from enclavectl.evidence import Receipted
from enclavectl.protocol.answers import Outcome

# How often a picture that the enclave was too busy for is sent again, and the first pause before that. Few:
# the enclave refuses a picture only once all of it has come, and who says "busy" may be a relay.
_BUSY_TRIES = 2
_BUSY_PAUSE_S = 0.25
# On one host. A picture under way in this many lost sessions is the likely cause.
_MAX_LOSSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The reply for the picture at ``index``: the enclave's outcome, or the error in its place.

    ``receipted`` is the checked receipt of an outcome with probabilities; a problem has none.
    ``total_ms`` is from the first sealing to the opened answer. ``picture`` is None if it could not be read.
    ``session`` counts the sessions of the batch: the answer rests on the evidence of that one.
    """

    index: int
    session: int = 0
    picture: Picture | None = None
    outcome: Outcome | None = None
    receipted: Receipted | None = None
    error: EnclavectlError | None = None
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """How a batch takes the loss of its enclaves.

    A picture is lost ``per_picture`` times at most, and so many sessions in a row may end without an answer:
    more over a network, which loses sessions for reasons of its own. With ``are_raised``, the last loss is
    raised, and the pictures that remain are not read and get no reply.
    """

    per_picture: int = _MAX_LOSSES
    are_raised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flight:
    index: int
    picture: Picture
    sent_at: float = 0.0
    tries: int = 0
    losses: int = 0

    def reply(self, result: CheckedAnswer | EnclavectlError | None, session: int) -> Reply:
        total_ms = (time.monotonic() - self.sent_at) * 1000 if self.sent_at else 0.0
        reply = Reply(index=self.index, session=session, picture=self.picture, total_ms=total_ms)
        if isinstance(result, CheckedAnswer):
            return replace(reply, outcome=result.outcome, receipted=result.receipted)
        return replace(reply, error=result)


def classify(
    client: Client,
    pictures: Iterable[Picture | PictureRefused | None],
    *,
    timeout_s: float,
    in_flight: int = 8,
    renew: Callable[[EnclaveError], Client | None] = lambda _: None,
    losses: Losses = Losses(),
) -> Iterator[Reply]:
    """Yield one reply for each picture, as they come, with up to ``in_flight`` requests under way.

    A picture that was refused before it got here is answered with its refusal. None in place of a picture
    gets no reply, but keeps its index. A wrong receipt raises
    ReceiptError and ends the batch: an enclave that signs what it should not is not asked again.

    When the enclave is lost or ends the session because it is busy, ``renew`` is asked for a session with
    another one of the same model, and the pictures that have no answer go there. Where there is none, each of
    them gets the error as its reply; nothing is raised, unless ``losses`` says so. An enclave that does not
    answer in time is not lost: its pictures get that error.

    A session that lasts as long as its document vouches for receipts is renewed in time: once the answers
    under way are there, the client connects and verifies anew (``Client.renew``). Evidence that is then
    refused raises AttestationError and ends the batch.
    """
    batch = _Batch(client, pictures, timeout_s, in_flight, losses.per_picture)
    while True:
        try:
            while batch.fill():
                yield from batch.take_refused()
                yield from batch.next_reply()
            has_more = batch.has_more()
            yield from batch.take_refused()
            if not has_more:
                return
            batch.renew()
        except EnclaveError as error:
            yield from batch.settle(error)
            is_passing = isinstance(error, EnclaveLost | EnclaveBusy)
            another = renew(error) if is_passing and batch.may_go_on() else None
            if another is None:
                if losses.are_raised:
                    yield from batch.take_refused()
                    raise
                yield from batch.give_up(error)
                return
            batch.resume(another)


class _Batch:
    def __init__(
        self,
        client: Client,
        pictures: Iterable[Picture | PictureRefused | None],
        timeout_s: float,
        in_flight: int,
        max_losses: int,
    ) -> None:
        self._client = client
        self._source = enumerate(pictures)
        self._timeout_s = timeout_s
        self._in_flight = in_flight
        self._max_losses = max_losses
        self._refused: list[Reply] = []
        self._waiting: deque[_Flight] = deque()
        self._flights: dict[bytes, _Flight] = {}
        self._pause_until = 0.0
        self._session = 0
        self._sent = 0  # in this session
        self._answers = 0  # of this session
        self._fruitless = 0
        self._is_late = False

    def fill(self) -> bool:
        """Send until ``in_flight`` requests are under way; return False when none is left to wait for.

        In a session that is ending nothing is sent, and its answers are waited for.
        """
        if (
            self._sent and self._client.is_ending
        ):  # but a picture in each, or a short one would end in no time
            return bool(self._flights)
        # In bursts: sealing one picture after each answer keeps pushing the workers' data out of the caches.
        # In short ones: over a relay a long one takes longer than the enclave has work left.
        if 8 * len(self._flights) > 7 * self._in_flight:
            return True
        pause_s = self._pause_until - time.monotonic()
        if pause_s > 0:
            if self._flights:
                return True  # an answer that comes is the better sign that there is room again
            time.sleep(pause_s)
        while self._has_room() and (self._waiting or self._read_one()):
            flight = self._waiting[0]
            flight = replace(flight, sent_at=flight.sent_at or time.monotonic())
            # It leaves the queue only once it is sent, so that a lost connection forgets no picture.
            pending = self._client.prepare(flight.picture)
            self._client.submit(flight.picture, pending)
            self._sent += 1
            self._flights[pending.request_id] = flight
            self._waiting.popleft()
        return bool(self._flights)

    def _has_room(self) -> bool:
        # What was under way when an enclave was lost goes alone: only the picture that ended it then fails.
        under_way = [*self._flights.values(), *list(self._waiting)[:1]]
        limit = 1 if any(flight.losses for flight in under_way) else self._in_flight
        return len(self._flights) < limit

    def take_refused(self) -> list[Reply]:
        """Return the replies for pictures that never got as far as being sent."""
        refused, self._refused = self._refused, []
        return refused

    def next_reply(self) -> Iterator[Reply]:
        """Wait for one answer; nothing comes of it if the enclave was busy and the picture waits again."""
        deadline = min(flight.sent_at for flight in self._flights.values()) + self._timeout_s
        try:
            request_id, result = self._client.next_answer(deadline)
        except EnclaveLost:
            self._is_late = time.monotonic() >= deadline
            raise
        self._answers += 1
        flight = self._flights.pop(request_id)
        if isinstance(result, EnclaveBusy) and self._may_wait(flight):
            self._waiting.append(replace(flight, tries=flight.tries + 1))
        else:
            yield flight.reply(result, self._session)

    def _may_wait(self, flight: _Flight) -> bool:
        """Slow down after a "busy"; return False if the picture's time or its tries are over."""
        # What the enclave did take is as much as it takes of us now.
        self._in_flight = max(len(self._flights), 1)
        self._pause_until = time.monotonic() + jittered(_BUSY_PAUSE_S * 2**flight.tries)
        return flight.tries < _BUSY_TRIES and self._pause_until < flight.sent_at + self._timeout_s

    def settle(self, error: EnclaveError) -> Iterator[Reply]:
        """Reply to what is decided although the session is over; queue the rest of what was under way."""
        yield from self.take_refused()
        if isinstance(error, EnclaveLost | EnclaveBusy):
            is_late = self._is_late
            yield from self._arrived()
            self._is_late = is_late
        lost = [replace(flight, losses=flight.losses + 1) for flight in self._flights.values()]
        self._flights.clear()
        for flight in lost:
            if flight.losses >= self._max_losses:
                yield flight.reply(error, self._session)
        # In another session its time begins anew.
        again = [replace(flight, sent_at=0.0) for flight in lost if flight.losses < self._max_losses]
        self._waiting.extendleft(reversed(again))

    def may_go_on(self) -> bool:
        """Return whether another session may help: the enclave is gone, and sessions do bring answers."""
        self._fruitless = 0 if self._answers else self._fruitless + 1
        return not self._is_late and self._fruitless < self._max_losses and self.has_more()

    def renew(self) -> None:
        """Go on in a new session at the same address.

        Raises:
            AttestationError: its evidence was refused.
            EnclaveLost: there is no such session.
        """
        try:
            self._client.renew()
        except (AttestationError, EnclaveError):
            raise
        except EnclavectlError as error:  # where it listened nothing does now, or something else is between
            raise EnclaveLost(error.message, hint=error.hint) from error
        self.resume(self._client)

    def resume(self, client: Client) -> None:
        """Go on with another session."""
        self._client = client
        self._session += 1
        self._sent = 0
        self._answers = 0

    def give_up(self, error: EnclaveError) -> Iterator[Reply]:
        """Reply with the error to everything that was read or is still to be read."""
        while self._waiting or self._read_one():
            yield self._waiting.popleft().reply(error, self._session)
        yield from self.take_refused()

    def _arrived(self) -> Iterator[Reply]:
        """Yield answers that came before the connection was lost, but that nobody had read yet."""
        try:
            while self._flights:
                yield from self.next_reply()
        except EnclaveError:
            return  # that was all; the caller has the error already

    def has_more(self) -> bool:
        """Return whether a picture waits to be sent."""
        return bool(self._waiting) or self._read_one()

    def _read_one(self) -> bool:
        for index, picture in self._source:
            if picture is None:
                continue
            if isinstance(picture, Picture):
                self._waiting.append(_Flight(index=index, picture=picture))
                return True
            self._refused.append(Reply(index=index, error=picture))
        return False
