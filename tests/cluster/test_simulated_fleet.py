"""Three nodes, a balancer and 200 clients: a rollout, a scale-down, a node that dies; no picture is lost."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_payload.card import model_register
from enclavectl.attestation import Release
from enclavectl.backends.local.backend import LocalBackend
from enclavectl.backends.local.measure import measure, payload_dir
from enclavectl.client.exchange import Expectation
from enclavectl.client.session import Client
from enclavectl.errors import StateError
from enclavectl.label import MODEL_PCR
from enclavectl.models.find import (
    CARD_NAME,
    MEASURED_NAME,
    PACKAGED_DIR,
    PACKAGED_ID,
    WEIGHTS_NAME,
    find_model,
)
from tests.cluster.control_plane_process import wait_until
from tests.cluster.simulated import Fleet, Node, balanced, fleet, has_parts, new_cli, on_network, start
from tests.gateway.visitors import Visitor, answered, summary, visitors

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
CLIENTS, PICTURES = 200, 3


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
    """A rollout, a scale-down and a node's death at the same time."""
    total = CLIENTS * PICTURES
    with fleet(tmp_path, nodes=3, enclaves=2) as made, ThreadPoolExecutor(2) as operators:
        with visitors(made.address, made.expectation(), CLIENTS, pictures=PICTURES, pause_s=0.5) as found:

            def is_at(share: float) -> None:
                wait_until(lambda: answered(found) >= total * share, f"{share:.0%} of the answers are there")

            is_at(0.1)
            scaled_down = operators.submit(made.nodes[1].end_enclave, "n2e0")
            rolled = operators.submit(roll, made)
            is_at(0.2)
            made.nodes[2].die()
            assert answered(found) < total * 0.9, "it died under load"
        assert (scaled_down.result(), rolled.result()) == (0, [0, 0, 0])
        told = summary(found)
        assert told["wrong"] == []
        assert (told["answers"], told["twice"]) == (total, 0)
        # Some were led elsewhere, and each enclave that was given a picture had proved itself.
        assert told["sessions"] > CLIENTS
        assert all(one.enclaves for one in found)


def other_release(folder: Path) -> Release:
    """Make a model of the packaged weights and another card; return the release of enclaves with it."""
    folder.mkdir()
    card = (PACKAGED_DIR / CARD_NAME).read_text().replace(f"id: {PACKAGED_ID}\n", "id: other-lesion\n")
    (folder / CARD_NAME).write_text(card)
    shutil.copy(PACKAGED_DIR / WEIGHTS_NAME, folder)
    measured = folder.with_name("measured")
    measured.mkdir()
    shutil.copy(PACKAGED_DIR / WEIGHTS_NAME, measured)
    content = find_model(str(folder), data_dir=folder).card.to_json()
    (measured / MEASURED_NAME).write_bytes(content)
    return Release(name="new", pcrs={**measure(payload_dir(), measured), MODEL_PCR: model_register(content)})


def test_clients_that_pin_a_release_are_led_to_it_while_another_one_rolls_out(
    tmp_path: Path, missing: None
) -> None:
    """Each node is a pod, and each service is one of the manifests: all pods, those of OLD, those of NEW."""
    later = other_release(tmp_path / "other")
    cli = new_cli(tmp_path)
    old = [Node(number, cli, tmp_path / f"node{number}") for number in (1, 2)]
    new = [Node(3, cli, tmp_path / "node3", model=tmp_path / "other")]
    with ExitStack() as stack:
        stack.enter_context(on_network([*old, *new]))
        start(old, enclaves=1)
        balancer = stack.enter_context(balanced(tmp_path, [*old, *new], old, new))
        backend = LocalBackend(cli.state)
        root, policy = backend.trust_root(), backend.policy(backend.enclaves()[:1], allow_debug=False)
        [earlier] = policy.releases
        assert old[0].release == earlier.label

        def accept(*releases: Release) -> Expectation:
            return Expectation(policy=replace(policy, releases=releases), root=root)

        at_work = stack.enter_context(ExitStack())

        def come(service: int, *releases: Release, pin: str | None = None) -> list[Visitor]:
            address = balancer.address(service, pin)
            found = visitors(address, accept(*releases), 10, pictures=5, pause_s=0.4)
            return at_work.enter_context(found)

        anyone, pinned = come(0, earlier, later), come(1, earlier, pin=earlier.label)
        wait_until(lambda: answered(anyone) >= 10 and answered(pinned) >= 10, "the clients are at work")
        # As with maxSurge 0: a pod of the old release ends before the first of the new one begins.
        assert old[1].end_as_a_pod() == [0, 0]
        start(new, enclaves=1)
        assert new[0].release == later.label
        late = come(2, later, pin=later.label)
        at_work.close()  # waits until they have come to an end
        for told in (summary(anyone), summary(pinned), summary(late)):
            assert (told["wrong"], told["answers"], told["twice"]) == ([], 50, 0)
        # A pod has one release, and says so to who comes for another.
        with pytest.raises(StateError, match=earlier.label):
            Client.connect(balancer.address(2, earlier.label), accept(earlier), timeout_s=30)
