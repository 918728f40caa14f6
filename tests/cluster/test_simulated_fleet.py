"""Three nodes, a balancer and 200 clients: a rollout, a scale-down, a node that dies; no picture is lost."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.cluster.simulated import Fleet, answered, fleet, has_parts, summary, visitors
from tests.gateway.process import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
CLIENTS, PICTURES = 200, 4


@pytest.fixture(scope="module")
def missing() -> None:
    reason = has_parts()
    if reason is not None:
        assert not os.environ.get("ENCLAVECTL_TEST_REQUIRE_CLUSTER"), reason
        pytest.skip(reason)


def roll(made: Fleet) -> list[int]:
    """Replace the enclaves of a node one by one, and its gateway."""
    node = made.nodes[0]
    codes = []
    for name in list(node.enclaves):
        node.start_enclave(f"{name}-new")
        wait_until(lambda name=name: f"{name}-new" in node.names(), "the new enclave is announced")
        codes.append(node.end_enclave(name))
    return [*codes, node.restart_gateway()]


def test_no_picture_is_lost_and_none_has_two_answers(tmp_path: Path, missing: None) -> None:
    total = CLIENTS * PICTURES
    with fleet(tmp_path, nodes=3, enclaves=2) as made:
        with visitors(made, CLIENTS, pictures=PICTURES, pause_s=0.5) as found:

            def is_at(share: float) -> None:
                wait_until(
                    lambda: answered(found) >= total * share or not threading.active_count() > 1,
                    f"{share:.0%} of the answers are there, of {answered(found)}",
                )

            is_at(0.1)
            first = made.nodes[1]
            assert first.end_enclave("n2e0") == 0  # scaled down
            assert roll(made) == [0, 0, 0]
            is_at(0.3)
            made.nodes[2].die()
        told = summary(found)
        assert told["wrong"] == []
        assert (told["answers"], told["twice"]) == (total, 0)
        # Some were led elsewhere, and each enclave that was given a picture had proved itself.
        assert told["sessions"] > CLIENTS
        known = {node.number for node in made.nodes}
        assert known == {1, 2, 3}
        assert all(one.enclaves for one in found)
