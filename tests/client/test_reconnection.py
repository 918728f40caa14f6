"""How often, and when, a client tries again."""

from __future__ import annotations

from enclavectl.client.reconnection import Reconnections


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_three_connections_with_growing_pauses() -> None:
    left = Reconnections(Clock())
    pauses = [left.next_pause_s() for _ in range(4)]
    assert pauses[3] is None
    for pause, longest in zip(pauses, (0.25, 2.0, 8.0), strict=False):
        assert pause is not None
        assert longest / 2 <= pause <= longest


def test_an_answer_begins_anew() -> None:
    left = Reconnections(Clock())
    for _ in range(5):
        assert left.next_pause_s() is not None
        assert left.next_pause_s() is not None
        left.answered()


def test_after_a_minute_no_other_is_tried() -> None:
    clock = Clock()
    left = Reconnections(clock)
    assert left.next_pause_s() is not None
    clock.now += 59.9
    assert left.next_pause_s() is None
    clock.now -= 10
    assert left.next_pause_s() is not None
