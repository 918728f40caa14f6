"""Pictures that take long hold all workers but one, and only while nobody else waits."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from enclave_payload.lane import SlowLane
from enclave_payload.limits import Limits
from enclave_payload.server import Server, Service
from enclave_payload.verdict import Problem
from tests.payload.decoders import FORKS_BESIDE_THREADS, SAMPLES, decoders, kill
from tests.payload.serving import (
    KEYS,
    LOSES_THE_DECODERS,
    SIGNER,
    ReadableAttester,
    RunningServer,
    eventually,
    picture_of,
    redness,
    serving,
)

SAMPLE = (SAMPLES / "bcc.png").read_bytes()


class TestSlowLane:
    """Without workers: who has a place, and what waits."""

    @pytest.mark.parametrize(("workers", "places"), [(1, 1), (2, 1), (4, 3)])
    def test_it_has_places_for_all_workers_but_one(self, workers: int, places: int) -> None:
        lane: SlowLane[str] = SlowLane(workers, Limits())
        assert [lane.enter() for _ in range(places + 1)] == [True] * places + [False]

    def test_who_has_a_place_takes_what_waits_before_it_leaves(self) -> None:
        lane: SlowLane[str] = SlowLane(2, Limits())
        assert lane.enter()
        assert lane.line_up("first", 1)
        assert lane.line_up("second", 1)
        assert [lane.next_or_leave() for _ in range(3)] == ["first", "second", None]
        assert lane.enter()

    def test_the_line_is_bounded_in_jobs_and_bytes(self) -> None:
        lane: SlowLane[str] = SlowLane(2, Limits(queued_requests=2, queued_bytes=10))
        assert [lane.line_up("job", size) for size in (9, 2, 1, 0)] == [True, False, True, False]


def test_slow_pictures_leave_a_worker_to_others_and_are_answered_in_the_end(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as server, server.connect() as slow, server.connect() as other:
        slow.challenge()
        other.challenge()
        for classifier in server.classifiers:
            classifier.is_slow = True
            classifier.gate.clear()
        for counter in range(4):
            slow.ask(counter, 255)
        for classifier in server.classifiers:
            assert classifier.entered.acquire(timeout=30)
        # Both workers are held, and stay so: one of them is given up for the other's picture.
        other.ask(0, 51)
        assert other.next_outcome()[1].probabilities_ppb == redness(51)
        assert other.is_served(1)
        for classifier in server.classifiers:
            classifier.gate.set()
        assert sorted(slow.next_outcome()[0] for _ in range(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize(("long_s", "is_looked_at_once"), [(600.0, True), (0.0, False)])
def test_pictures_of_several_slow_peers_are_looked_at_once_if_they_are_not_long(
    tmp_path: Path, long_s: float, is_looked_at_once: bool
) -> None:
    limits = Limits(slow_s=0.0, long_s=long_s)  # every picture is slow
    with (
        serving(tmp_path, workers=2, limits=limits) as server,
        server.connect() as one,
        server.connect() as two,
    ):
        one.challenge()
        two.challenge().ask(0, 255)
        two.next_outcome()
        looks = [classifier.entered for classifier in server.classifiers]
        assert sum(look.acquire(blocking=False) for look in looks) == 1
        for classifier in server.classifiers:
            classifier.is_slow = True
            classifier.gate.clear()
        one.ask(0, 255)
        one.ask(1, 255)
        assert all(look.acquire(timeout=30) for look in looks)
        two.ask(1, 255)
        if is_looked_at_once:
            # It waits for as long as a worker asks many times whether it may stay.
            assert not any(look.acquire(timeout=0.5) for look in looks)
        else:
            eventually(lambda: any(look.acquire(blocking=False) for look in looks))
        for classifier in server.classifiers:
            classifier.gate.set()
        assert sorted(one.next_outcome()[0] for _ in range(2)) == [0, 1]
        assert two.next_outcome()[0] == 1


def test_a_picture_that_nobody_waits_behind_keeps_its_worker(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as server, server.connect() as peer:
        peer.challenge()
        for classifier in server.classifiers:
            classifier.is_slow = True
            classifier.gate.clear()
        peer.ask(0)
        peer.ask(1)
        # Both are held before one is let go: that one would take the second picture, too.
        for classifier in server.classifiers:
            assert classifier.entered.acquire(timeout=30)
        for classifier in server.classifiers:
            classifier.gate.set()
        assert sorted(peer.next_outcome()[0] for _ in range(2)) == [0, 1]
        assert not any(classifier.entered.acquire(blocking=False) for classifier in server.classifiers)


def test_without_decoders_the_service_ends(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as peer:
        peer.challenge().send(peer.request_frame(0, picture_of(LOSES_THE_DECODERS)))
        server.join()
        assert "no picture can be looked at any more: they are gone" in server.log[-2]


@pytest.mark.filterwarnings(FORKS_BESIDE_THREADS)
def test_whoever_kills_decoders_loses_no_answer(tmp_path: Path) -> None:
    """Each of 100 requests has one answer while decoders are killed all the time."""

    def nobody_listens() -> socket.socket:
        raise ConnectionRefusedError

    with decoders(2) as real:
        service = Service(
            keys=KEYS,
            signer=SIGNER,
            attester=ReadableAttester(),
            classifiers=real,
            dial=nobody_listens,
            log=print,
        )
        server = RunningServer(tmp_path / "in", Server(service), [], [])
        server.thread.start()
        is_over = threading.Event()

        def keep_killing() -> None:
            while not is_over.wait(0.05):
                for decoder in real:
                    kill(decoder)

        killer = threading.Thread(target=keep_killing)
        killer.start()
        try:
            with server.connect() as peer:
                peer.challenge()
                found: dict[int, Problem | None] = {}
                for start in range(0, 100, 10):
                    for counter in range(start, start + 10):
                        peer.send(peer.request_frame(counter, SAMPLE))
                    for _ in range(10):
                        counter, outcome = peer.next_outcome()
                        assert counter not in found
                        found[counter] = outcome.problem
        finally:
            is_over.set()
            killer.join()
            server.close()
        assert found.keys() == set(range(100))
        assert set(found.values()) <= {None, Problem.DECODER_FAILED}
        assert Problem.DECODER_FAILED in found.values()
