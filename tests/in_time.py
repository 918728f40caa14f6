"""A bound on how long something takes, for machines that do other things meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# What a goal of one second is held to. It tells "in time" from "when the peer leaves" and from our own
# time-outs of 10 s and more; it is no measurement.
SLACK_S = 5.0
_NAP_S = 0.02


@contextmanager
def in_time(limit_s: float) -> Iterator[None]:
    """Fail if the block takes more than ``limit_s`` and the slack.

    The clock is a thread beside the block that counts its own naps. A nap that the machine prolongs counts as
    one: what stalls the block stalls its clock, too.
    """
    naps, is_over = 0, threading.Event()

    def count() -> None:
        nonlocal naps
        while not is_over.wait(_NAP_S):
            naps += 1

    clock = threading.Thread(target=count)
    clock.start()
    try:
        yield
    finally:
        is_over.set()
        clock.join()
    assert naps * _NAP_S <= limit_s + SLACK_S
