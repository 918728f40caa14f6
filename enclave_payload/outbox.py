"""Answers that leave by the outbound connection, kept until the parent's listener takes them."""

from __future__ import annotations

import threading
from collections import deque

from enclave_payload.connection import Connection, ConnectionLost


class Outbox:
    """A bounded queue of sealed answers with at most one listener attached."""

    def __init__(self, capacity: int) -> None:
        """``capacity`` counts answers that wait or are promised."""
        self._capacity = capacity
        self._promised = 0
        self._answers: deque[bytes] = deque()
        self._listener: Connection | None = None
        self._lock = threading.Lock()

    def promise(self) -> bool:
        """Keep a place for one answer; False if the box is full."""
        with self._lock:
            if self._promised + len(self._answers) >= self._capacity:
                return False
            self._promised += 1
            return True

    def withdraw(self) -> None:
        """Give up a promised answer's place: there will be none."""
        with self._lock:
            self._promised -= 1

    def deliver(self, frame: bytes) -> None:
        """Put a promised answer in, and out again at once if a listener is there."""
        with self._lock:
            self._promised -= 1
            self._answers.append(frame)
            self._flush()

    def attach(self, listener: Connection | None) -> None:
        """From now on answers go to ``listener``; None keeps them."""
        with self._lock:
            self._listener = listener
            self._flush()

    def _flush(self) -> None:
        while self._listener is not None and self._answers:
            try:
                self._listener.send(self._answers[0])
                self._listener.flush()
            except ConnectionLost:
                self._listener = None  # the answer stays for the next one
            else:
                self._answers.popleft()
