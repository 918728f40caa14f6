"""The metadata section: the official writer's bytes, and what a strict reader refuses."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.eif.errors import EifError
from enclavectl.eif.metadata import Metadata, parse_metadata
from enclavectl.json_object import JsonValue
from tests.eif.samples import METADATA

WHOLE = METADATA.to_bytes()
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def test_the_official_builders_bytes() -> None:
    custom: JsonValue = {
        "z": 1,
        "a": {"y": [1, 2.5, "é\u0001/"], "b": None},
        "ctl": '\x7f\u2028\b\f\n\r\t\\"<>&',
    }
    expected = (
        '{"ImageName":"vec","ImageVersion":"1","BuildMetadata":{"BuildTime":"t","BuildTool":"eif_build",'
        '"BuildToolVersion":"0.3.1","OperatingSystem":"OS","KernelVersion":"kernel"},"DockerInfo":null,'
        '"CustomMetadata":{"a":{"b":null,"y":[1,2.5,"é\\u0001/"]},"ctl":"\x7f\u2028\\b\\f\\n\\r\\t\\\\\\"<>&","z":1}}'
    )
    made = Metadata(
        image_name="vec",
        image_version="1",
        build_time="t",
        build_tool="eif_build",
        build_tool_version="0.3.1",
        operating_system="OS",
        kernel_version="kernel",
        custom=custom,
    )
    assert made.to_bytes() == expected.encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (1e10, "10000000000.0"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e16"),
        (1.5e16, "1.5e16"),
        (1e-5, "0.00001"),
        (1e-6, "1e-6"),
        (-2.5e-7, "-2.5e-7"),
        (123.456, "123.456"),
        (0.1, "0.1"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e308"),
    ],
)
def test_floats_are_laid_out_as_serde_json_does(value: float, expected: str) -> None:
    assert replace(METADATA, custom=value).to_bytes().endswith(f'"CustomMetadata":{expected}}}'.encode())


@given(values, values, text)
def test_parse_of_write_is_the_same(docker: JsonValue, custom: JsonValue, name: str) -> None:
    made = replace(METADATA, docker_info=docker, custom=custom, image_name=name)
    data = made.to_bytes()
    assert parse_metadata(data) == made
    assert parse_metadata(data).to_bytes() == data
    assert json.loads(data)["ImageName"] == name


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "metadata-json"),
        (b"\xef\xbb\xbf" + WHOLE, "metadata-json"),
        (WHOLE + b"\0", "metadata-json"),
        (WHOLE + b"{}", "metadata-json"),
        (WHOLE.replace(b"sample", b"\xff"), "metadata-json"),
        (WHOLE.decode().encode("utf-16"), "metadata-json"),
        (WHOLE.replace(b'"sample"', b'"\\ud800"'), "metadata-json"),
        (WHOLE.replace(b'"CustomMetadata":null', b'"CustomMetadata":NaN'), "metadata-json"),
        (WHOLE.replace(b'"CustomMetadata":null', b'"CustomMetadata":1e999'), "metadata-json"),
        (WHOLE.replace(b'"CustomMetadata":null', b'"CustomMetadata":' + b"9" * 5000), "metadata-json"),
        (WHOLE.replace(b',"CustomMetadata":null', b""), "metadata-missing-key"),
        (WHOLE.replace(b"null}", b'null,"Other":1}'), "metadata-unknown-key"),
        (WHOLE.replace(b'"DockerInfo":null', b'"ImageName":"x","DockerInfo":null'), "metadata-duplicate-key"),
        (WHOLE.replace(b'"DockerInfo":null', b'"DockerInfo":{"a":1,"a":2}'), "metadata-duplicate-key"),
        (WHOLE.replace(b'"sample"', b"7"), "metadata-type"),
        (b"null", "metadata-type"),
        (b"[" * 65 + b"]" * 65, "metadata-depth"),
        (b"[" * 1_000_000, "metadata-depth"),
        (b'"' + b'\\"' * 500_000, "metadata-json"),
        (b" " * ((1 << 20) + 1), "section-too-large"),
    ],
)
def test_what_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(EifError) as caught:
        parse_metadata(data)
    assert caught.value.code == code


def test_brackets_inside_strings_do_not_count_as_depth() -> None:
    made = replace(METADATA, custom={"a": '[{"' * 200})
    assert parse_metadata(made.to_bytes()) == made


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, math.inf, math.nan, "\ud800"])
def test_what_the_official_reader_would_change_is_not_written(value: JsonValue) -> None:
    with pytest.raises(EifError) as caught:
        replace(METADATA, custom=value).to_bytes()
    assert caught.value.code == "metadata-value"


def test_nesting_is_bounded_for_the_writer_as_for_the_reader() -> None:
    value: JsonValue = None
    for _ in range(63):
        value = [value]
    assert parse_metadata(replace(METADATA, custom=value).to_bytes()).custom == value
    with pytest.raises(EifError, match="nested deeper"):
        replace(METADATA, custom=[value]).to_bytes()
