from __future__ import annotations

import pytest

from enclave_payload.limits import MIB, Limits, decoder_count


@pytest.mark.parametrize(
    ("cpus", "memory_mib", "decoders"),
    [
        (1, 0, 2),
        (1, 1 << 20, 2),
        (2, 600 + 3 * 896 - 1, 2),
        (2, 600 + 3 * 896, 3),
        (4, 600 + 4 * 896, 4),
        (4, 600 + 5 * 896, 5),
        (255, 1 << 20, 256),
        (256, 1 << 20, 256),
        (1024, 1 << 20, 256),
    ],
)
def test_there_is_one_decoder_more_where_the_worst_pictures_still_fit(
    cpus: int, memory_mib: int, decoders: int
) -> None:
    assert decoder_count(cpus, memory_mib * MIB, Limits()) == decoders
