"""The schemas by name, each as one document that needs no other.

``NAME.json`` describes the object whose ``schema`` is ``enclavectl.NAME/VERSION``; its ``$id`` says the
version. What several of them share is in ``common.json``; ``load_schema`` copies what a schema uses of it.
The schema of the configuration file is made from the settings that ``enclavectl.config`` declares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from enclavectl.config.schema import CONFIG_FILE, config_file_schema
from enclavectl.errors import UsageError
from enclavectl.json_object import JsonObject, JsonValue
from enclavectl.suggest import suggestion

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_COMMON = "common.json"
_SHARED = f"{_COMMON}#/$defs/"
_FULL_NAME = re.compile(r"enclavectl\.([a-z-]+)/([0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaEntry:
    """A line of the list: the name that ``enclavectl schema`` takes, the schema's ``$id`` and its title."""

    name: str
    identifier: str
    title: str

    def to_json(self) -> dict[str, object]:
        """Return the object in the list."""
        return {"name": self.name, "id": self.identifier, "title": self.title}


def schema_names() -> list[str]:
    """Return the name of every schema, in alphabetical order."""
    stored = (file.name for file in _folder().iterdir() if file.name.endswith(".json"))
    return sorted([CONFIG_FILE, *(name.removesuffix(".json") for name in stored if name != _COMMON)])


def list_schemas() -> list[SchemaEntry]:
    """Return a line for each schema, in alphabetical order."""
    found = ((name, JsonObject(_load(name))) for name in schema_names())
    return [
        SchemaEntry(name=name, identifier=schema.string("$id"), title=schema.string("title"))
        for name, schema in found
    ]


def load_schema(name: str) -> Mapping[str, JsonValue]:
    """Return a schema by its name, or by the ``schema`` member of an object: ``enclavectl.NAME/VERSION``.

    Raises:
        UsageError: there is none of that name, or it is of another version.
    """
    full = _FULL_NAME.fullmatch(name)
    short = full[1] if full is not None else name
    names = schema_names()
    if short not in names:
        raise UsageError(
            f"schema {name!r}: there is none of this name; {suggestion(short, names)}",
            hint="enclavectl schema lists them",
        )
    schema = _load(short)
    version = str(schema["$id"]).rpartition(":")[2]
    if full is not None and full[2] != version:
        raise UsageError(
            f"schema {name!r}: expected version {version}, which this enclavectl has",
            hint=f"enclavectl schema {short}",
        )
    return _bundle(schema)


def _folder() -> Traversable:
    return files("enclavectl.schemas")


def _load(name: str) -> Mapping[str, JsonValue]:
    if name == CONFIG_FILE:
        return {"$schema": DIALECT, **config_file_schema()}
    return _read(f"{name}.json").members


def _read(file: str) -> JsonObject:
    return JsonObject.parse((_folder() / file).read_bytes())


def _bundle(schema: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    """Return the schema with copies of the shared definitions that it uses, in alphabetical order."""
    shared = _read(_COMMON).object("$defs").members
    used: dict[str, JsonValue] = {}
    waiting = list(_shared_names(schema))
    while waiting:
        name = waiting.pop()
        if name not in used:
            used[name] = _localized(shared[name])
            waiting += _shared_names(shared[name])
    bundled = {key: _localized(value) for key, value in schema.items()}
    return {**bundled, **({"$defs": dict(sorted(used.items()))} if used else {})}


def _shared_names(value: JsonValue) -> Iterator[str]:
    """Yield the name of each shared definition that a schema refers to."""
    if isinstance(value, str):
        if value.startswith(_SHARED):
            yield value.removeprefix(_SHARED)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _shared_names(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _shared_names(item)


def _localized(value: JsonValue) -> JsonValue:
    """Return the value with references to shared definitions as references to copies in the same document."""
    if isinstance(value, str):
        return value.replace(_SHARED, "#/$defs/")
    if isinstance(value, Mapping):
        return {key: _localized(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_localized(item) for item in value]
    return value
