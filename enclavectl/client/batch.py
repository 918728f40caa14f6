"""Many pictures through one session: pipelined, in any order, each with its own fate."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from enclavectl.client.pictures import Picture
from enclavectl.client.session import Client, jittered
from enclavectl.errors import EnclaveBusy, EnclavectlError, EnclaveError, EnclaveLost, PictureRefused
from enclavectl.protocol.answers import Outcome

# How often a picture that the enclave was too busy for is sent again, and the first pause before that. Few:
# the enclave refuses a picture only once all of it has come, and who says "busy" may be a relay.
_BUSY_TRIES = 2
_BUSY_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What became of the picture at ``index``: the enclave's outcome, or the error in its place.

    ``total_ms`` is from the first sealing to the opened answer. ``picture`` is None if it could not be read.
    """

    index: int
    picture: Picture | None = None
    outcome: Outcome | None = None
    error: EnclavectlError | None = None
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flight:
    index: int
    picture: Picture
    sent_at: float = 0.0
    tries: int = 0

    def reply(self, result: Outcome | EnclavectlError | None) -> Reply:
        total_ms = (time.monotonic() - self.sent_at) * 1000 if self.sent_at else 0.0
        outcome, error = (None, result) if isinstance(result, EnclavectlError) else (result, None)
        return Reply(index=self.index, picture=self.picture, outcome=outcome, error=error, total_ms=total_ms)


def classify(
    client: Client, pictures: Iterable[Picture | PictureRefused], *, timeout_s: float, in_flight: int = 8
) -> Iterator[Reply]:
    """One reply for each picture, as they come, with up to ``in_flight`` requests under way.

    A picture that was refused before it got here is answered with its refusal. When the connection is
    lost, every picture that has no answer yet gets that error as its reply; nothing is raised.
    """
    batch = _Batch(client, pictures, timeout_s, in_flight)
    try:
        while batch.fill():
            yield from batch.take_refused()
            yield from batch.next_reply()
        yield from batch.take_refused()
    except EnclaveError as error:
        yield from batch.give_up(error)


class _Batch:
    def __init__(
        self, client: Client, pictures: Iterable[Picture | PictureRefused], timeout_s: float, in_flight: int
    ) -> None:
        self._client = client
        self._source = enumerate(pictures)
        self._timeout_s = timeout_s
        self._in_flight = in_flight
        self._refused: list[Reply] = []
        self._waiting: deque[_Flight] = deque()
        self._flights: dict[bytes, _Flight] = {}
        self._pause_until = 0.0

    def fill(self) -> bool:
        """Send until ``in_flight`` requests are under way; False when none is left to wait for."""
        # In bursts: sealing one picture after each answer keeps pushing the workers' data out of the caches.
        if 2 * len(self._flights) > self._in_flight:
            return True
        pause_s = self._pause_until - time.monotonic()
        if pause_s > 0:
            if self._flights:
                return True  # an answer that comes is the better sign that there is room again
            time.sleep(pause_s)
        while len(self._flights) < self._in_flight and (self._waiting or self._read_one()):
            flight = self._waiting[0]
            flight = replace(flight, sent_at=flight.sent_at or time.monotonic())
            # It leaves the queue only once it is sent, so that a lost connection forgets no picture.
            pending = self._client.prepare()
            self._client.submit(flight.picture, pending)
            self._flights[pending.request_id] = flight
            self._waiting.popleft()
        return bool(self._flights)

    def take_refused(self) -> list[Reply]:
        """Replies for pictures that never got as far as being sent."""
        refused, self._refused = self._refused, []
        return refused

    def next_reply(self) -> Iterator[Reply]:
        """Wait for one answer; nothing comes of it if the enclave was busy and the picture waits again."""
        first_sent_at = min(flight.sent_at for flight in self._flights.values())
        request_id, result = self._client.next_answer(first_sent_at + self._timeout_s)
        flight = self._flights.pop(request_id)
        if isinstance(result, EnclaveBusy) and self._may_wait(flight):
            self._waiting.append(replace(flight, tries=flight.tries + 1))
        else:
            yield flight.reply(result)

    def _may_wait(self, flight: _Flight) -> bool:
        """Slow down after a "busy"; False if the picture's time or its tries are over."""
        # What the enclave did take is as much as it takes of us now.
        self._in_flight = max(len(self._flights), 1)
        self._pause_until = time.monotonic() + jittered(_BUSY_PAUSE_S * 2**flight.tries)
        return flight.tries < _BUSY_TRIES and self._pause_until < flight.sent_at + self._timeout_s

    def give_up(self, error: EnclaveError) -> Iterator[Reply]:
        """The connection is over: a reply for everything that was read or is still to be read."""
        yield from self.take_refused()
        if isinstance(error, EnclaveLost):
            yield from self._arrived()
        for flight in (*self._flights.values(), *self._waiting):
            yield flight.reply(error)
        while self._read_one():
            yield self._waiting.pop().reply(error)
        yield from self.take_refused()

    def _arrived(self) -> Iterator[Reply]:
        """Answers that came before the connection was lost, but that nobody had read yet."""
        try:
            while self._flights:
                yield from self.next_reply()
        except EnclaveError:
            return  # that was all; the caller has the error already

    def _read_one(self) -> bool:
        for index, picture in self._source:
            if isinstance(picture, Picture):
                self._waiting.append(_Flight(index=index, picture=picture))
                return True
            self._refused.append(Reply(index=index, error=picture))
        return False
