"""Answers that leave by the outbound connection, kept until the parent's listener confirms them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from enclave_payload.connection import Connection, ConnectionLost
from enclave_payload.limits import Limits
from enclave_payload.messages import SESSION_ID_BYTES


@dataclass(frozen=True, slots=True)
class _Answer:
    frame: bytes
    since: float


class Outbox:
    """A bounded store of sealed answers with at most one listener attached.

    The outbox sends an answer to each listener that comes until one confirms it, and keeps it for
    ``outbox_keep_s`` seconds at most: a client has given up the key to it by then. A session has a quota.
    When the store is full, the sessions with most answers give way, the oldest answer first.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._answers: dict[bytes, _Answer] = {}  # by request id, the oldest first
        self._listener: Connection | None = None
        self._lock = threading.Lock()

    def put(self, request_id: bytes, seal: Callable[[], bytes]) -> bool:
        """Store the answer that ``seal`` makes and send it to the listener, if there is one.

        Returns False, and does not call ``seal``, if there is no room.
        """
        with self._lock:
            if not self._make_room(_session_of(request_id)):
                return False
            frame = seal()
            self._answers[request_id] = _Answer(frame, time.monotonic())
            self._send(frame)
            return True

    def taken(self, request_id: bytes) -> None:
        """Forget an answer that a listener has. An unknown one was taken before: no error."""
        with self._lock:
            self._answers.pop(request_id, None)

    def attach(self, listener: Connection | None) -> None:
        """Send answers to ``listener`` from now on, first those that nobody has taken; None keeps them."""
        with self._lock:
            self._listener = listener
            for answer in self._answers.values():
                self._send(answer.frame)

    def _make_room(self, session: bytes) -> bool:
        limits = self._limits
        oldest = time.monotonic() - limits.outbox_keep_s
        for request_id, answer in list(self._answers.items()):
            if answer.since > oldest:
                break
            del self._answers[request_id]
        counts = Counter(map(_session_of, self._answers))
        if counts[session] >= limits.outbox_answers_per_session:
            return False
        if len(self._answers) < limits.outbox_answers:
            return True
        most = max(counts.values())
        if counts[session] >= most:
            return False
        del self._answers[next(key for key in self._answers if counts[_session_of(key)] == most)]
        return True

    def _send(self, frame: bytes) -> None:
        if self._listener is not None:
            try:
                self._listener.send(frame)
            except ConnectionLost:
                self._listener = None


def _session_of(request_id: bytes) -> bytes:
    return request_id[:SESSION_ID_BYTES]
