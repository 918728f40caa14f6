"""How often, and when, a client tries again."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import repeat

import pytest

from enclavectl.client.reconnection import Reconnections, keep_trying
from enclavectl.errors import EnclaveBusy, EnclavectlError, EnclaveLost, StateError
from enclavectl.net.tcp import NOT_LISTENING


class Clock:
    """A clock that only the one who sleeps moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


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

    left, clock = Noting(), Clock()
    with pytest.raises(type(error)):
        keep_trying(attempt, clock.now + 30, left, clock=clock, sleep=clock.sleep)
    assert left.told == [is_restart]


def tries_at(seconds: float, left: Reconnections | None, errors: Iterable[EnclavectlError]) -> list[float]:
    """When, from the start, each try came before one was served or the time of so many seconds was over."""
    clock, failing = Clock(), iter(errors)
    begun, tries = clock.now, list[float]()

    def attempt() -> None:
        tries.append(clock.now - begun)
        if error := next(failing, None):
            raise error

    with suppress(EnclavectlError):
        keep_trying(attempt, begun + seconds, left, clock=clock, sleep=clock.sleep)
    return tries


STOPPING = EnclaveLost("it stops", code="refused-stopping")
BUSY = EnclaveBusy("it is busy", code="refused-busy")


@pytest.mark.parametrize("seconds", [2.5, 3.0, 5.0])
def test_a_pause_that_is_longer_than_the_time_left_is_cut_short(seconds: float) -> None:
    """The second pause would take 4 to 8 s, and the error would be raised before it."""
    tries = tries_at(seconds, Reconnections(), [STOPPING, STOPPING])
    assert len(tries) == 3
    assert tries[2] == pytest.approx(seconds - min(2, seconds / 2))


@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0, 30.0])
def test_the_last_try_has_time_to_be_answered(seconds: float) -> None:
    """Two seconds, or half of a shorter time: the deadline cuts no try short."""
    tries = tries_at(seconds, None, repeat(BUSY))
    assert len(tries) > 2
    assert tries[-1] == pytest.approx(seconds - min(2, seconds / 2))
