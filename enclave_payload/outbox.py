"""Answers that leave by the outbound connection, kept until the parent's listener says that it took them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from enclave_payload.connection import Connection, ConnectionLost


@dataclass(frozen=True, slots=True)
class _Answer:
    frame: bytes
    since: float


class Outbox:
    """A bounded store of sealed answers with at most one listener attached.

    An answer is sent to every listener that comes until one confirms it, and at most for ``keep_s`` seconds:
    the key to an answer that nobody takes is gone by then.
    """

    def __init__(self, capacity: int, keep_s: float) -> None:
        """``capacity`` counts answers that wait or are promised."""
        self._capacity = capacity
        self._keep_s = keep_s
        self._promised = 0
        self._answers: dict[bytes, _Answer] = {}
        self._listener: Connection | None = None
        self._lock = threading.Lock()

    def promise(self) -> bool:
        """Reserve a place for one answer; return False if the box is full."""
        with self._lock:
            oldest = time.monotonic() - self._keep_s
            self._answers = {key: answer for key, answer in self._answers.items() if answer.since > oldest}
            if self._promised + len(self._answers) >= self._capacity:
                return False
            self._promised += 1
            return True

    def withdraw(self) -> None:
        """Give up the place of an answer that will not come."""
        with self._lock:
            self._promised -= 1

    def deliver(self, request_id: bytes, frame: bytes) -> None:
        """Put a promised answer in, and send it if a listener is there."""
        with self._lock:
            self._promised -= 1
            self._answers[request_id] = _Answer(frame, time.monotonic())
            self._send(frame)

    def taken(self, request_id: bytes) -> None:
        """Forget an answer that a listener has. One that is not here was taken before."""
        with self._lock:
            self._answers.pop(request_id, None)

    def attach(self, listener: Connection | None) -> None:
        """Send answers to ``listener`` from now on, first those that nobody has taken; None keeps them."""
        with self._lock:
            self._listener = listener
            for answer in self._answers.values():
                self._send(answer.frame)

    def _send(self, frame: bytes) -> None:
        if self._listener is not None:
            try:
                self._listener.send(frame)
            except ConnectionLost:
                self._listener = None
