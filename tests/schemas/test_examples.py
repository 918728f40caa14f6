"""The examples of docs/json.md: real, whole in their form, and free of what is somebody's own."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from enclavectl.schemas.store import schema_names
from tests.schemas.validation import checked, schema_of, validator_of
from tools.json_page import FILES, OUTPUTS, PAGE, read_page, render_page

TEXT = PAGE.read_text()
EXAMPLES = read_page(TEXT)


def test_the_page_has_every_schema_once() -> None:
    assert sorted((*OUTPUTS, *FILES)) == schema_names()
    assert list(EXAMPLES) == [*OUTPUTS, *FILES]


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_example_is_an_object_of_its_schema(name: str) -> None:
    value = checked(json.loads(EXAMPLES[name].text))
    assert schema_of(value) == f"enclavectl.{name}/1"


@pytest.mark.parametrize("name", FILES)
def test_an_example_of_a_file_follows_its_schema(name: str) -> None:
    validator_of(name).validate(yaml.safe_load(EXAMPLES[name].text))


def test_the_text_around_the_examples_is_that_of_the_schemas() -> None:
    """`python -m tools.json_examples` writes the page anew."""
    assert render_page(EXAMPLES) == TEXT


def test_the_page_names_nothing_of_the_machine_that_made_it() -> None:
    paths = set(re.findall(r"(?<![\w.])/(?:home|root|work|tmp|var/tmp|opt)/[\w./-]*", TEXT))
    assert {path for path in paths if not path.startswith("/home/ada/")} == set()
    assert not re.search(r"\b(?:json|pytest)-[a-z0-9_]{8}\b", TEXT)
