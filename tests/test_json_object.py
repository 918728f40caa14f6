"""The one JSON reader: what it takes means the same to Python's, and what it refuses has one exception."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.json_object import (
    MAX_DEPTH,
    MAX_INTEGER,
    JsonError,
    JsonObject,
    JsonValue,
    parse_json,
    parse_prefix,
)
from fuzz import json_object as fuzz_json_object

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_what_python_writes_reads_back_the_same(value: JsonValue, indent: int | None, is_ascii: bool) -> None:
    data = json.dumps(value, indent=indent, ensure_ascii=is_ascii).encode()
    assert parse_json(data) == value
    assert parse_json(b" \t\r\n" + data + b"\n") == value


@pytest.mark.slow
@given(OBJECTS)
def test_every_part_of_an_object_and_anything_after_it_are_refused(value: dict[str, JsonValue]) -> None:
    data = json.dumps(value).encode()
    for end in range(len(data)):
        with pytest.raises(JsonError):
            parse_json(data[:end])
    for more in (b"{}", b"0", b"\0", b",", data):
        with pytest.raises(JsonError):
            parse_json(data + more)


@given(VALUES, TEXT)
def test_a_prefix_ends_where_the_value_does(value: JsonValue, rest: str) -> None:
    text = json.dumps([value])
    assert parse_prefix("x" + text + rest, 1) == ([value], 1 + len(text))


@given(st.binary(max_size=200))
def test_the_fuzzer_s_invariant_on_noise(data: bytes) -> None:
    fuzz_json_object.one(data)


@given(st.sampled_from(fuzz_json_object.SEEDS), st.data())
def test_the_fuzzer_s_invariant_near_its_seeds(seed: bytes, data: st.DataObject) -> None:
    fuzz_json_object.one(seed)
    position = data.draw(st.integers(0, len(seed)))
    fuzz_json_object.one(seed[:position] + data.draw(st.binary(max_size=3)) + seed[position + 1 :])


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "json"),
        (b"\xef\xbb\xbf{}", "json"),
        (b"\xff", "json"),
        ("{}".encode("utf-16"), "json"),
        (b"{'a': 1}", "json"),
        (b'{"a": 1,}', "json"),
        (b"[1 2]", "json"),
        (b"01", "json"),
        (b"+1", "json"),
        (b"NaN", "json"),
        (b"-Infinity", "json"),
        (b'{"a": NaN}', "json"),
        (b"1e999", "json"),
        (b"9" * 5000, "json"),
        (b'"\\ud800"', "json"),
        (b'{"\\udfff": 1}', "json"),
        (b'"a\nb"', "json"),
        (b'{"a": 1, "a": 1}', "duplicate-key"),
        (b'{"a": 1, "\\u0061": 2}', "duplicate-key"),
        (b'[{"b": {"a": 1, "a": 2}}]', "duplicate-key"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "depth"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "depth"),
        (b"[" * 200_000, "depth"),
        (b" " * 101, "size"),
    ],
)
def test_what_is_refused(data: bytes, rule: str) -> None:
    with pytest.raises(JsonError) as caught:
        parse_json(data, limit=100 if rule == "size" else 1 << 20)
    assert caught.value.rule == rule


def test_the_bounds_themselves_are_taken() -> None:
    assert parse_json(b"1" + b" " * 99, limit=100) == 1
    assert parse_json(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH)
    assert parse_json(b'{"a":' * MAX_DEPTH + b'"[{[{"' + b"}" * MAX_DEPTH)
    assert JsonObject({"n": MAX_INTEGER}).integer("n") == MAX_INTEGER


Read = Callable[[JsonObject], object]
READERS: dict[str, tuple[Read, list[JsonValue], list[JsonValue]]] = {
    "integer": (
        lambda o: o.integer("k"),
        [0, 3, MAX_INTEGER],
        ["3", 3.0, 3.9, True, -1, 2**63, [3]],
    ),
    "port": (lambda o: o.integer("k", minimum=1, maximum=9), [1, 9], [0, 10, "1"]),
    "string": (lambda o: o.string("k", maximum=3), ["", "abc"], ["abcd", 3, True, ["a"], {}]),
    "boolean": (lambda o: o.boolean("k"), [True, False], [0, 1, "true", "", []]),
    "time": (
        lambda o: o.time("k"),
        ["2026-11-24T12:00:00+00:00", "2026-11-24T12:00:00Z"],
        ["2026-11-24T12:00:00", "yesterday", 12, "2026" * 99],
    ),
    "hex": (lambda o: o.hex("k", length=2), ["00ff"], ["00FF", "00f", "00ff00", "zzzz", "0 ff", 255]),
    "hex of any length": (lambda o: o.hex("k"), ["", "00", "00ff00"], ["0", "FF", 0, ["00"]]),
    "object": (lambda o: o.object("k"), [{}, {"a": 1}], [[], "{}", 1]),
    "objects": (lambda o: o.objects("k"), [[], [{}]], [[1], {}, [[]], [{}, None]]),
    "strings": (lambda o: o.strings("k"), [[], ["a"]], [["a", 1], "ab", {}, [None]]),
    "integers": (lambda o: o.integers("k", maximum=9), [[], [1, 9]], [[1, "2"], [1.0], [10], [True], 1]),
    "list": (lambda o: o.list("k"), [[], [1, "a"]], ["ab", {}, 1]),
    "string_map": (lambda o: o.string_map("k"), [{}, {"a": "b"}], [{"a": 1}, [], "a"]),
}


@pytest.mark.parametrize("name", READERS)
def test_a_member_has_its_type_or_is_refused_by_name(name: str) -> None:
    read, good, bad = READERS[name]
    for value in good:
        read(JsonObject({"k": value}))
    for value in bad:
        with pytest.raises(JsonError, match=r"^top\.k.*: expected .*found") as caught:
            read(JsonObject({"k": value}, "top"))
        assert caught.value.rule == "member"
    for absent in ({}, {"k": None}):
        with pytest.raises(JsonError, match=r"^k: expected"):
            read(JsonObject(absent))


def test_optional_members_are_none_or_have_their_type() -> None:
    given = JsonObject(
        {"s": "a", "i": 1, "t": "2026-11-24T12:00:00+00:00", "o": {}, "null": None, "wrong": [True]}
    )
    assert (given.optional_string("s"), given.optional_integer("i")) == ("a", 1)
    assert given.optional_time("t") == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert given.optional_object("o") is not None
    readers = (given.optional_string, given.optional_integer, given.optional_time, given.optional_object)
    for read in readers:
        assert read("null") is None
        assert read("absent") is None
        with pytest.raises(JsonError, match="wrong"):
            read("wrong")


def test_keys_and_schema() -> None:
    given = JsonObject({"schema": "a/1", "b": 1}, "top")
    given.require_schema("a/1")
    given.require_keys({"schema"}, {"b", "c"})
    with pytest.raises(JsonError, match="schema: expected a/2, found 'a/1'"):
        given.require_schema("a/2")
    with pytest.raises(JsonError, match="top: expected the key d"):
        given.require_keys({"schema", "b", "d"})
    with pytest.raises(JsonError, match="top: found the unknown key b"):
        given.require_keys({"schema"})


def test_messages_name_the_path_and_do_not_show_keys() -> None:
    given = JsonObject.parse(b'{"a": {"b": [{"c": 1}]}, "key": "secretsecret"}')
    with pytest.raises(JsonError, match=r"^a\.b\[0\]\.c: expected text, found 1$"):
        given.object("a").objects("b")[0].string("c")
    with pytest.raises(JsonError) as caught:
        given.hex("key", length=32)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"{}"'])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(JsonError, match="expected an object"):
        JsonObject.parse(data)


def test_numbers_stay_what_they_are() -> None:
    assert parse_json(b"1") == 1
    found = parse_json(b"[1.0, -0.0, 1e2, 9007199254740993]")
    assert isinstance(found, list)
    assert [type(one) for one in found] == [float, float, float, int]
    assert math.copysign(1, float(str(found[1]))) == -1
