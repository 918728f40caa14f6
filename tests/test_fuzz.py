"""Every target of fuzz/ against its seeds, mutations of them, and arbitrary bytes.

ENCLAVECTL_TEST_FUZZ_SECONDS gives each target so many more seconds; ``python -m fuzz`` runs one alone.
"""

import os
import time
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz import find_target, target_names
from fuzz._mutate import mutate
from tests.payload.decoders import FORKS_BESIDE_THREADS

MORE_SECONDS = float(os.environ.get("ENCLAVECTL_TEST_FUZZ_SECONDS", "0"))
EXAMPLES = 200

# As the payload does for its process: what Pillow only warns of is no failure.
pytestmark = [
    pytest.mark.filterwarnings("ignore:::PIL"),
    pytest.mark.filterwarnings(FORKS_BESIDE_THREADS),
    pytest.mark.parametrize("name", target_names()),
    pytest.mark.timeout(120 + MORE_SECONDS),
]


def test_a_target_states_its_invariant_and_has_seeds(name: str) -> None:
    target = find_target(name)
    assert target.invariant.endswith((".", "Error"))
    assert target.seeds


def test_the_invariant_holds(name: str) -> None:
    target = find_target(name)
    mutations = st.builds(
        lambda seed, random: mutate(seed, target.seeds, random),
        st.sampled_from(target.seeds),
        st.randoms(use_true_random=False),
    )

    @settings(max_examples=EXAMPLES)
    @given(st.one_of(mutations, st.binary(max_size=300)))
    def holds(data: bytes) -> None:
        target.one(data)

    for seed in target.seeds:
        holds = example(seed)(holds)
    holds()


@pytest.mark.skipif(not MORE_SECONDS, reason="ENCLAVECTL_TEST_FUZZ_SECONDS is not set")
def test_the_invariant_holds_for_longer(name: str) -> None:
    target = find_target(name)
    random = Random()  # unseeded on purpose: every run looks elsewhere, and a failure names its input
    deadline = time.monotonic() + MORE_SECONDS
    while time.monotonic() < deadline:
        data = mutate(random.choice(target.seeds), target.seeds, random)
        try:
            target.one(data)
        except Exception as exc:
            exc.add_note(f"input: {data.hex()}")
            raise
