import itertools

from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.media import MAX_PICTURE_BYTES
from enclavectl.protocol.padding import padme


@given(st.integers(1, 2**32))
def test_padme_costs_at_most_12_percent_and_leaves_few_lengths(length: int) -> None:
    padded = padme(length)
    assert length <= padded <= length + length * 12 // 100 + 1
    # Section 4: as a floating point number the result has a mantissa no longer than its exponent.
    exponent = padded.bit_length() - 1
    assert padded % (1 << max(exponent - exponent.bit_length(), 0)) == 0


@given(st.integers(0, 2**32), st.integers(0, 2**20))
def test_padme_is_monotone_and_idempotent(length: int, more: int) -> None:
    assert padme(length) <= padme(length + more)
    assert padme(padme(length)) == padme(length)


def test_padme_against_the_formula_of_the_paper() -> None:
    def from_the_paper(length: int) -> int:
        e = length.bit_length() - 1  # floor(log2 L)
        s = e.bit_length()  # floor(log2 E) + 1
        unit: int = 2 ** (e - s)
        return -(-length // unit) * unit

    lengths = itertools.chain(range(8, 5000), range(10**6, 10**6 + 100), [MAX_PICTURE_BYTES])
    assert all(padme(length) == from_the_paper(length) for length in lengths)
