"""What commands print, held to the schemas that are shipped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from enclavectl.schemas.store import load_schema


@cache
def validator_of(name: str) -> Draft202012Validator:
    """The validator of a schema, by its name or an object's ``schema`` member."""
    return Draft202012Validator(load_schema(name))


def schema_of(value: Mapping[str, Any]) -> str:
    """The name that an object gives itself; that of ``eif show`` stands under ``enclavectl``."""
    own = value.get("enclavectl", {}) if "schema" not in value else value
    assert "schema" in own, f"an object without a schema: {json.dumps(value)[:200]}"
    name = own["schema"]
    assert isinstance(name, str)
    return name


def checked(value: Any) -> Any:
    """The value, an object that a command printed; an AssertionError says where it breaks its schema."""
    assert isinstance(value, dict), f"expected an object, found {value!r:.200}"
    if "$schema" in value:  # what `enclavectl schema NAME` prints
        Draft202012Validator.check_schema(value)
        return value
    name = schema_of(value)
    problem = best_match(validator_of(name).iter_errors(value))
    assert problem is None, f"{name}: {problem.json_path}: {problem.message:.500}"
    return value


def parsed(text: str) -> Any:
    """The one object in standard output, which follows its schema."""
    return checked(json.loads(text))


def check_output(out: str) -> None:
    """Check standard output: one object, or an object on each line; other text is for people."""
    if not out.startswith("{"):
        return
    try:
        values = [json.loads(out)]
    except ValueError:
        values = [json.loads(line) for line in out.splitlines()]
    for value in values:
        checked(value)
