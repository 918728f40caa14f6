from __future__ import annotations

import pytest

from enclavectl.backends.nitro.boot_turn import BootTurn, is_port_taken
from enclavectl.errors import StateError
from enclavectl.run import Output

TAKEN = Output(
    status=39,
    out=b"",
    err=b"[ E36 ] Enclave boot failure. Such error appears when awaiting the `ready` signal of "
    b"a freshly booted enclave.\n\nAction: Run Enclave\n  Subactions:\n    vsock bind error\n",
)
DONE = Output(status=0, out=b"{}", err=b"")
OTHER = Output(status=39, out=b"", err=b"[ E29 ] Ioctl failure.\n")


class Clock:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def turn(clock: Clock, notes: list[str], bound_s: float, *, unwanted_at: float = 1e9) -> BootTurn:
    return BootTurn(
        bound_s, notes.append, lambda: clock.now > unwanted_at, clock=lambda: clock.now, sleep=clock.sleep
    )


def test_a_taken_port_is_tried_again_until_it_is_free_and_said_seldom() -> None:
    clock = Clock()
    notes: list[str] = []
    answers = iter([TAKEN] * 20 + [DONE])
    assert turn(clock, notes, 600).take(lambda: next(answers)) is DONE
    assert 20 <= clock.now - 100 <= 20 * 10.5
    assert 1 <= len(notes) <= 8
    assert "vsock port 9000" in notes[0]


def test_the_wait_is_bounded_and_the_last_answer_is_told() -> None:
    clock: Clock = Clock()
    assert turn(clock, [], 60).take(lambda: TAKEN) is TAKEN
    assert clock.now - 100 <= 60.5


@pytest.mark.parametrize("output", [DONE, OTHER])
def test_nothing_else_is_tried_twice(output: Output) -> None:
    tries: list[int] = []

    def launch() -> Output:
        tries.append(1)
        return output

    assert not is_port_taken(output)
    assert turn(Clock(), [], 600).take(launch) is output
    assert tries == [1]


def test_without_time_a_taken_port_is_told_at_once() -> None:
    clock = Clock()
    assert turn(clock, [], 0).take(lambda: TAKEN) is TAKEN
    assert clock.now == 100


def test_an_end_that_is_asked_for_meanwhile_ends_the_wait() -> None:
    clock = Clock()
    with pytest.raises(StateError):
        turn(clock, [], 600, unwanted_at=100.5).take(lambda: TAKEN)
    assert clock.now < 102
