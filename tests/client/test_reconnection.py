"""How often, and when, a client tries again."""

from __future__ import annotations

import time

import pytest

from enclavectl.client.reconnection import Reconnections, keep_trying
from enclavectl.errors import EnclaveBusy, EnclavectlError, EnclaveLost, StateError
from enclavectl.net.tcp import NOT_LISTENING


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("is_restart", "pauses_s"), [(False, (0.25, 2.0, 8.0)), (True, (0.25, 8.0, 20.0))])
def test_three_connections_with_growing_pauses(is_restart: bool, pauses_s: tuple[float, ...]) -> None:
    left = Reconnections(Clock())
    pauses = [left.next_pause_s(is_restart=is_restart) for _ in range(4)]
    assert pauses[3] is None
    for pause, longest in zip(pauses, pauses_s, strict=False):
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


class Noting(Reconnections):
    """Has been used once, allows no more, and notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.used = 1
        self.told: list[bool] = []

    def next_pause_s(self, *, is_restart: bool = False) -> float | None:
        self.told.append(is_restart)
        return None


@pytest.mark.parametrize(
    ("error", "is_restart"),
    [
        (EnclaveLost("it stops", code="refused-stopping"), True),
        (StateError("nobody listens", code=NOT_LISTENING), True),
        (EnclaveLost("an enclave is gone"), False),
        (EnclaveBusy("all are busy", code="refused-busy"), False),
    ],
)
def test_a_gateway_that_stops_or_is_gone_is_given_the_time_of_a_restart(
    error: EnclavectlError, is_restart: bool
) -> None:
    def attempt() -> None:
        raise error

    left = Noting()
    with pytest.raises(type(error)):
        keep_trying(attempt, time.monotonic() + 30, left)
    assert left.told == [is_restart]


def test_a_pause_that_is_longer_than_the_time_left_is_cut_short() -> None:
    stopping = iter([True, True, False])

    def attempt() -> str:
        if next(stopping):
            raise EnclaveLost("it stops", code="refused-stopping")
        return "served"

    # The second pause would take 4 to 8 s, and the error would be raised before it.
    assert keep_trying(attempt, time.monotonic() + 2.5, Reconnections()) == "served"
