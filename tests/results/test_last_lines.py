"""The table of what a results file says of each picture."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from enclavectl.results.last_lines import LastLines

SHORT = st.binary(max_size=2)


@given(st.lists(st.tuples(SHORT, SHORT), max_size=40))
def test_the_last_line_of_a_name_counts_as_in_a_dict(lines: list[tuple[bytes, bytes]]) -> None:
    table, expected = LastLines(), dict[bytes, bytes]()
    for name, line in lines:
        table.put(name, line)
        expected[name] = line
    assert len(table) == len(expected)
    for name, line in lines:
        assert table.matches(name, line) == (expected[name] == line)
    assert not table.matches(b"another", b"")


def test_it_grows_without_losing_a_line() -> None:
    table = LastLines()
    for number in range(5000):
        table.put(b"%d" % number, b"first")
        table.put(b"%d" % number, b"line %d" % number)
    assert len(table) == 5000
    assert all(table.matches(b"%d" % number, b"line %d" % number) for number in range(5000))
    assert not any(table.matches(b"%d" % number, b"first") for number in range(5000))


def test_a_picture_takes_less_than_fifty_bytes() -> None:
    table = LastLines()
    tracemalloc.start()
    try:
        for number in range(30_000):
            table.put(b"%d" % number, b"line")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50 * 30_000
