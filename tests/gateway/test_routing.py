from __future__ import annotations

import pytest

from enclavectl.errors import UsageError
from enclavectl.gateway.routing import Health, NoEnclave, Routes, parse_destination

ONE, TWO, OTHER = (parse_destination(f"{text}") for text in ("a@unix:/1", "a@unix:/2", "b@unix:/3"))


def routes() -> Routes:
    made = Routes(per_enclave=3)
    made.replace([ONE, TWO, OTHER])
    for enclave in made.enclaves:
        enclave.health = Health.UP
    return made


def test_the_enclave_with_the_fewest_sessions_is_chosen() -> None:
    made = routes()
    chosen = []
    for _ in range(4):
        enclave = made.choose("a")
        enclave.sessions += 1
        chosen.append(enclave.destination)
    assert sorted(chosen, key=str) == sorted([ONE, TWO] * 2, key=str)


def test_a_release_is_never_served_by_another() -> None:
    made = routes()
    assert made.choose("b").destination == OTHER
    made.choose("b").health = Health.DOWN
    with pytest.raises(NoEnclave, match="no enclave answers"):
        made.choose("b")
    with pytest.raises(NoEnclave, match="no enclave of this release"):
        made.choose("c")
    assert made.releases == ["a", "b"]


def test_an_enclave_that_is_full_gets_no_more() -> None:
    made = routes()
    for _ in range(6):
        made.choose("a").sessions += 1
    with pytest.raises(NoEnclave, match="full"):
        made.choose("a")
    assert made.choose(None).destination == OTHER


def test_an_enclave_is_not_trusted_before_its_first_evidence() -> None:
    made = Routes(3)
    made.replace([ONE])
    assert not made.is_ready
    with pytest.raises(NoEnclave, match="answers"):
        made.choose(None)


def test_an_enclave_that_is_suspected_leaves_at_once_and_is_asked_again() -> None:
    made, woken = routes(), []
    first = made.choose("b")
    first.wake = lambda: woken.append(True)
    first.suspect()
    assert woken == [True]
    with pytest.raises(NoEnclave):
        made.choose("b")


def test_what_stays_keeps_its_sessions_when_the_list_changes() -> None:
    made = routes()
    made.choose("b").sessions = 2
    came, went = made.replace([OTHER, parse_destination("c@unix:/4")])
    assert [enclave.destination.release for enclave in came] == ["c"]
    assert {enclave.destination for enclave in went} == {ONE, TWO}
    assert made.choose("b").sessions == 2


@pytest.mark.parametrize(
    "text", ["unix:/x", "@unix:/x", "a b@unix:/x", "a@", "a@tcp", "é@unix:/x", "-a@unix:/x"]
)
def test_a_destination_has_a_release_and_an_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse_destination(text)
