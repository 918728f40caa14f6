"""An object written in parts is the object as ``json.dumps`` writes it whole."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from enclavectl.cli.json_stream import JsonStream

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.dictionaries(st.text(), VALUES, min_size=1, max_size=3)


@given(head=MEMBERS, items=st.lists(VALUES, max_size=4), tail=MEMBERS)
def test_the_parts_are_the_whole(
    head: dict[str, object], items: list[object], tail: dict[str, object]
) -> None:
    head = {f"h{name}": value for name, value in head.items()}
    tail = {f"t{name}": value for name, value in tail.items()}
    written: list[str] = []
    stream = JsonStream(written.append)
    stream.begin(head, "results")
    for item in items:
        stream.item(item)
    stream.end(tail)
    assert "".join(written) == json.dumps({**head, "results": items, **tail}, indent=2) + "\n"
