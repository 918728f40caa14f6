from __future__ import annotations

from functools import partial

import pytest

from enclavectl.gateway.admission import ANONYMOUS, Admission, Bound, Identity, OverBound, address_group
from enclavectl.gateway.openings import Openings
from enclavectl.net.bucket import TokenBucket
from tests.gateway.limits import gateway_limits

LIMITS = gateway_limits(connections=20, connections_per_client=3, connections_per_address=5)


def count_until_refused(admission: Admission, identity: Identity, addresses: list[str]) -> tuple[int, Bound]:
    for count, address in enumerate(addresses):
        try:
            admission.enter(identity, address)
        except OverBound as exc:
            return count, exc.bound
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize(
    ("identity", "addresses", "expected"),
    [
        (Identity(name="a"), [f"192.0.2.{n}" for n in range(30)], (3, Bound.CLIENT)),
        (ANONYMOUS, ["192.0.2.1"] * 30, (5, Bound.ADDRESS)),
        (ANONYMOUS, [f"2001:db8::{n}" for n in range(30)], (5, Bound.ADDRESS)),
        (ANONYMOUS, [f"2001:db8:0:{n}::1" for n in range(30)], (20, Bound.ALL)),
        (ANONYMOUS, [f"192.0.2.{n}" for n in range(30)], (20, Bound.ALL)),
    ],
)
def test_each_bound_is_held_at_its_edge(
    identity: Identity, addresses: list[str], expected: tuple[int, Bound]
) -> None:
    assert count_until_refused(Admission(LIMITS), identity, addresses) == expected


def test_who_leaves_makes_room_once() -> None:
    admission = Admission(LIMITS)
    tickets = [admission.enter(Identity(name="a"), "192.0.2.1") for _ in range(3)]
    with pytest.raises(OverBound):
        admission.enter(Identity(name="a"), "192.0.2.1")
    tickets[0].leave()
    tickets[0].leave()
    admission.enter(Identity(name="a"), "192.0.2.1")
    with pytest.raises(OverBound):
        admission.enter(Identity(name="a"), "192.0.2.1")
    assert admission.count == 3


def test_a_client_has_one_rate_however_many_sessions_it_has() -> None:
    admission = Admission(LIMITS)
    tickets = [admission.enter(Identity(name="a"), "192.0.2.1") for _ in range(2)]
    assert tickets[0].take_requests(150, 0.0) == 0
    assert tickets[1].take_requests(50, 0.0) == 0
    assert tickets[0].take_requests(1, 0.0) == pytest.approx(0.01)
    assert admission.enter(Identity(name="b"), "192.0.2.1").take_requests(200, 0.0) == 0


def test_addresses_that_come_and_go_leave_no_memory_behind() -> None:
    admission = Admission(LIMITS)
    for number in range(1000):
        ticket = admission.enter(ANONYMOUS, f"10.0.{number // 256}.{number % 256}")
        ticket.take_requests(1, 0.0)
        ticket.leave()
    kept = [value for value in vars(admission).values() if isinstance(value, dict)]
    assert sum(map(len, kept)) <= 2 * LIMITS.connections + 1


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_network_of_ipv6_counts_as_one_address(address: str, group: str) -> None:
    assert address_group(address) == group


def test_a_bucket_fills_at_its_rate_up_to_its_burst() -> None:
    bucket = TokenBucket(10, 5)
    assert [bucket.take(1, 0.0) for _ in range(5)] == [0] * 5
    assert bucket.take(1, 0.0) == pytest.approx(0.1)
    assert bucket.take(1, 100.0) == 0
    assert bucket.take(5, 100.0) == pytest.approx(0.1)


def test_of_connections_that_say_nothing_the_oldest_of_the_greediest_gives_way() -> None:
    openings = Openings(4)
    gone: list[object] = []
    opened = [openings.enter(group, partial(gone.append, at), at) for at, group in enumerate("abbb")]
    opened.append(openings.enter("c", partial(gone.append, 4), 4))
    assert gone == [1]
    opened[2].leave()
    opened[2].leave()
    openings.enter("d", partial(gone.append, 5), 5)
    assert gone == [1]
    openings.enter("e", partial(gone.append, 6), 6)
    assert gone == [1, 0]
    openings.abort_older(5)
    assert gone == [1, 0, 3, 4]
    assert len(openings) == 2


def test_who_comes_back_for_ever_pushes_out_its_own() -> None:
    openings = Openings(4)
    gone: list[object] = []
    honest = openings.enter("honest", partial(gone.append, "honest"), 0)
    for at in range(1000):
        openings.enter("greedy", partial(gone.append, "greedy"), at)
    assert set(gone) == {"greedy"}
    honest.leave()
