"""The queue by itself: who is served next, and what share of the workers' time each connection gets."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from enclave_payload.connection import Connection
from enclave_payload.limits import Limits
from enclave_payload.session import AttestedSession, EnclaveSession, SealedReceived
from enclave_payload.tally import Tally
from enclave_payload.workers import Job, JobQueue


@pytest.fixture
def peers() -> Iterator[list[Connection]]:
    """Four connections without traffic, known by their place in the list."""
    with ExitStack() as stack:
        epoll = stack.enter_context(select.epoll())
        pairs = [socket.socketpair() for _ in range(4)]
        for ours, theirs in pairs:
            stack.enter_context(ours)
            stack.enter_context(theirs)
        yield [Connection(ours, epoll, EnclaveSession()) for ours, _ in pairs]


def job(peer: Connection, size: int = 1) -> Job:
    return Job(
        SealedReceived(bytes(24), 1, bytes(size), b"", AttestedSession(b"", b"")), peer, time.monotonic()
    )


def test_each_connection_gets_its_share_of_time_whatever_its_pictures_cost(peers: list[Connection]) -> None:
    queue, cost_s = JobQueue(Limits()), dict(zip(peers, (1.0, 0.1, 0.01, 0.5), strict=True))
    had_s = dict.fromkeys(peers, 0.0)
    for peer in peers:
        queue.offer(job(peer))
    while sum(had_s.values()) < 400:
        taken = queue.take()
        assert taken is not None
        peer = taken.connection
        queue.offer(job(peer))  # it always has another
        taken.spent_s = cost_s[peer]
        queue.finished(taken)
        had_s[peer] += cost_s[peer]
    for peer in peers:
        assert 99 <= had_s[peer] <= 101


def test_a_connection_with_nothing_at_work_comes_before_one_with_something(peers: list[Connection]) -> None:
    queue = JobQueue(Limits())
    greedy, other, *_ = peers
    for _ in range(8):
        assert queue.offer(job(greedy)) == []
    first = queue.take()
    queue.offer(job(other))
    order = [first, *(queue.take() for _ in range(3))]
    assert [taken.connection for taken in order if taken] == [greedy, other, greedy, greedy]


def test_who_was_away_has_saved_up_nothing(peers: list[Connection]) -> None:
    queue = JobQueue(Limits())
    busy, late, *_ = peers
    queue.offer(job(busy))
    for _ in range(100):
        taken = queue.take()
        assert taken is not None
        queue.offer(job(busy))
        taken.spent_s = 1.0
        queue.finished(taken)
    for _ in range(10):
        queue.offer(job(late))
    order = []
    for _ in range(10):
        taken = queue.take()
        assert taken is not None
        order.append(taken.connection)
        queue.offer(job(busy))
        taken.spent_s = 1.0
        queue.finished(taken)
    assert 4 <= order.count(late) <= 6


def test_those_whose_own_pictures_take_long_wait_longer_for_others(peers: list[Connection]) -> None:
    queue = JobQueue(Limits())
    one, other, *_ = peers
    queue.offer(job(one))
    assert not queue.has_others_than(one, also_slow=True)
    queue.offer(job(other))
    assert queue.has_others_than(one, also_slow=False)
    other.is_slow = True
    assert not queue.has_others_than(one, also_slow=False)
    assert queue.has_others_than(one, also_slow=True)


def test_over_the_bytes_who_holds_most_gives_way(peers: list[Connection]) -> None:
    queue = JobQueue(Limits(queued_bytes=100))
    greedy, other, *_ = peers
    jobs = [job(greedy, 30) for _ in range(3)]
    assert [queue.offer(each) for each in jobs] == [[], [], []]
    assert queue.offer(job(other, 30)) == [jobs[2]]
    own = job(greedy, 50)
    assert queue.offer(own) == [own]


class TestTally:
    """What peers do wrong is one line in a while."""

    def test_one_line_with_all_counts(self) -> None:
        lines: list[str] = []
        tally = Tally(lines.append, every_s=3600)
        tally.add("first")
        tally.tell()
        for _ in range(1000):
            tally.add("garbage")
            tally.add("silence")
            tally.tell()
        assert lines == ["first (1)"]
        tally.tell(is_last=True)
        assert lines == ["first (1)", "garbage (1000), silence (1000)"]

    def test_nothing_wrong_is_no_line(self) -> None:
        lines: list[str] = []
        Tally(lines.append, every_s=0).tell(is_last=True)
        assert lines == []
