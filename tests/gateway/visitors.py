"""Clients that keep sending pictures while their fleet changes, and what came back to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from enclavectl.client.batch import Losses, classify
from enclavectl.client.exchange import Expectation
from enclavectl.client.pictures import Picture, read_picture
from enclavectl.client.reconnection import Reconnections
from enclavectl.client.session import Client
from enclavectl.errors import EnclavectlError, EnclaveError
from enclavectl.net.address import Address
from tests.e2e.cli import SAMPLES

TIMEOUT_S = 90.0
PICTURE = read_picture(str(SAMPLES / "bcc.png"), lambda _limit: b"")


@dataclass(slots=True)
class Visitor:
    """A client with pictures to send: what came back, by picture, and from whom."""

    address: Address
    expectation: Expectation
    pictures: int
    pause_s: float
    replies: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    enclaves: set[str] = field(default_factory=set)
    # The module id of the last one.
    enclave: str = ""
    last_at: float = 0.0
    sessions: int = 0

    def visit(self) -> None:
        left = Reconnections()
        try:
            with ExitStack() as stack:
                client = stack.enter_context(self._connect(left))
                for reply in classify(
                    client,
                    self._pictures(),
                    timeout_s=TIMEOUT_S,
                    in_flight=2,
                    renew=lambda error: self._renew(error, left, stack),
                    losses=Losses(per_picture=8),
                ):
                    self.last_at = time.monotonic()
                    self.replies[reply.index] = self.replies.get(reply.index, 0) + 1
                    if reply.outcome is None:
                        self.wrong.append(str(reply.error))
                    else:
                        left.answered()
        except EnclavectlError as error:
            self.wrong.append(f"{type(error).__name__}: {error}")

    def _pictures(self) -> Iterator[Picture]:
        for _ in range(self.pictures):
            time.sleep(self.pause_s)
            yield PICTURE

    def _connect(self, left: Reconnections) -> Client:
        client = Client.connect(self.address, self.expectation, timeout_s=TIMEOUT_S, reconnections=left)
        self.sessions += 1
        self.enclave = client.enclave.document.module_id
        self.enclaves.add(self.enclave)
        return client

    def _renew(self, error: EnclaveError, left: Reconnections, stack: ExitStack) -> Client | None:
        try:
            return stack.enter_context(self._connect(left))
        except EnclavectlError as exc:
            self.wrong.append(f"after {type(error).__name__}: {exc}")
            return None


@contextmanager
def visitors(
    address: Address, expectation: Expectation, count: int, *, pictures: int, pause_s: float
) -> Iterator[list[Visitor]]:
    """Clients at work, each in a thread of its own; leaving waits for all of them."""
    found = [Visitor(address, expectation, pictures, pause_s) for _ in range(count)]
    threads = [threading.Thread(target=one.visit) for one in found]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        for thread in threads:
            thread.join()


def answered(found: Sequence[Visitor]) -> int:
    return sum(len(one.replies) for one in found)


def summary(found: Sequence[Visitor]) -> dict[str, Any]:
    return {
        "answers": answered(found),
        "twice": sum(count > 1 for one in found for count in one.replies.values()),
        "wrong": [text for one in found for text in one.wrong],
        "sessions": sum(one.sessions for one in found),
    }
