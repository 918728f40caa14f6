"""The shipped schemas: that each is valid, closed, described, and printed so that it needs no other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from enclavectl.errors import UsageError
from enclavectl.schemas.store import DIALECT, load_schema, schema_names
from tests.cli.command import enclavectl

NAMES = schema_names()
every_schema = pytest.mark.parametrize("name", NAMES)
# nitro-cli flattens the builder's custom metadata into this object, so anything may stand there.
OPEN = {("eif", "Metadata"), ("eif-show-files", "Metadata")}


def parts(value: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object in a schema, with the key it stands under."""
    if isinstance(value, dict):
        yield key, value
        for name, item in value.items():
            yield from parts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from parts(item, key)


@every_schema
def test_a_schema_is_valid_and_says_what_it_is(name: str) -> None:
    schema: Any = load_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    named = str(schema["$id"])
    assert named.rpartition(":")[0] == f"urn:enclavectl:schema:{name}"
    form = schema.get("properties", {}).get("schema", {}).get("const")
    assert form is None or form == f"enclavectl.{name}/{named.rpartition(':')[2]}"
    assert schema["title"].endswith(".")
    assert "\n" not in schema["title"]
    assert len(f"{name:18}{schema['title']}") <= 80, "the list fits on a terminal"
    assert schema["description"].endswith(".")


@every_schema
def test_no_object_takes_members_that_it_does_not_name(name: str) -> None:
    schema: Any = load_schema(name)
    used_with_more = {"eif-object", "pcrs-object"}  # closed by whoever refers to them
    for key, part in parts(schema):
        if "properties" in part and "type" in part and key not in used_with_more:
            closed = part.get("additionalProperties", part.get("unevaluatedProperties"))
            assert closed is False or (name, key) in OPEN, f"{key} is open"
        if part.get("$ref") in {f"#/$defs/{one}" for one in used_with_more}:
            assert part["unevaluatedProperties"] is False


@every_schema
def test_every_member_is_described(name: str) -> None:
    schema: Any = load_schema(name)
    definitions = schema.get("$defs", {})
    for key, part in parts(schema):
        if key in {"$defs", "properties"} or "properties" not in part or "type" not in part:
            continue
        for member, about in part["properties"].items():
            target = definitions.get(about.get("$ref", "").removeprefix("#/$defs/"), {})
            # What stands in a list is described where the list is.
            assert about.get("description") or target.get("description"), f"{key}.{member}"


@every_schema
def test_a_printed_schema_needs_no_other_document(name: str) -> None:
    schema: Any = load_schema(name)
    references = {part["$ref"] for _, part in parts(schema) if "$ref" in part}
    definitions = {f"#/$defs/{one}" for one in schema.get("$defs", {})}
    assert references == definitions, "each definition is used, and nothing else is referred to"


def test_no_shared_definition_is_left_over() -> None:
    shared = json.loads((files("enclavectl.schemas") / "common.json").read_text())["$defs"]
    used: set[str] = set()
    for name in NAMES:
        bundled: Any = load_schema(name)
        used |= set(bundled.get("$defs", {}))
    assert set(shared) == used


def test_a_schema_is_found_by_the_member_of_an_object_as_well() -> None:
    assert load_schema("enclavectl.diagnosis/1") == load_schema("diagnosis")


def test_a_schema_of_another_version_is_refused_by_name() -> None:
    assert load_schema("enclavectl.policy/2") == load_schema("policy")
    with pytest.raises(UsageError, match=r"'enclavectl\.policy/1': expected version 2"):
        load_schema("enclavectl.policy/1")


def test_a_name_that_does_not_exist_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="the nearest known one is 'diagnosis'") as caught:
        load_schema("diagnose")
    assert caught.value.exit_code == 2


def test_the_command_lists_every_schema_and_prints_each(tmp_path: Path) -> None:
    listed = enclavectl("schema", "--output", "json", home=tmp_path).json()["schemas"]
    assert [one["name"] for one in listed] == NAMES
    text = enclavectl("schema", home=tmp_path).out.splitlines()
    assert [line.split()[0] for line in text[1:]] == NAMES
    for arguments in (["schema", "policy"], ["schema", "policy", "--output", "json"]):
        printed = enclavectl(*arguments, home=tmp_path)
        assert printed.json() == load_schema("policy")
    unknown = enclavectl("schema", "polcy", "--output", "json", home=tmp_path)
    assert unknown.status == 2
    assert "'policy'" in str(unknown.error()["message"])
