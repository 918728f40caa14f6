"""Every family of costly pictures against a real decoder: a picture costs itself, within its budget."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from enclave_payload.decoder import Decoder
from enclave_payload.limits import Limits
from enclave_payload.media import MAX_PICTURE_BYTES, MediaType
from enclave_payload.verdict import Problem
from tests.hostile.pictures import FAMILIES
from tests.payload.decoders import FORKS_BESIDE_THREADS, SAMPLES, decoders

SAMPLE = (SAMPLES / "bcc.png").read_bytes()
# A tenth of the real budget, so that the tests do not take it all.
LIMITS = Limits(picture_cpu_s=0.5)

pytestmark = pytest.mark.filterwarnings(FORKS_BESIDE_THREADS)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with decoders(limits=LIMITS) as (decoder,):
        yield decoder


@pytest.mark.parametrize("name", FAMILIES)
def test_a_small_member_is_looked_at(decoder: Decoder, name: str) -> None:
    family = FAMILIES[name]
    problem = decoder.classify(family.make(family.few), family.media_type, lambda: True).verdict.problem
    assert problem in {None, Problem.NOTHING_VISIBLE}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_large_member_stays_within_the_budget_and_the_next_picture_is_answered(
    decoder: Decoder, name: str
) -> None:
    family = FAMILIES[name]
    data = family.make(family.many)[:MAX_PICTURE_BYTES]
    before = decoder.cpu_s, decoder.pid
    problem = decoder.classify(data, family.media_type, lambda: True).verdict.problem
    assert problem is not Problem.DECODER_FAILED
    assert (problem is Problem.TOO_COSTLY) == (decoder.pid != before[1])
    if decoder.pid == before[1]:
        # The clock is looked at every 20 ms, and on a busy machine later.
        assert decoder.cpu_s - before[0] < 2 * LIMITS.picture_cpu_s
    assert decoder.classify(SAMPLE, MediaType.PNG, lambda: True).verdict.problem is None
