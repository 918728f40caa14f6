"""The JSON Schema of the configuration file, made from the settings: an editor completes what they accept."""

from __future__ import annotations

from collections.abc import Mapping

from enclavectl.config.load import SECTIONS, SETTINGS
from enclavectl.config.setting import Setting
from enclavectl.json_object import JsonValue

CONFIG_FILE = "config-file"


def config_file_schema() -> dict[str, JsonValue]:
    """Return the schema, without the ``$schema`` of its dialect."""
    properties: dict[str, JsonValue] = {}
    for one in SETTINGS:
        if "." not in one.key:
            properties[one.key] = _property(one)
    for name, section in SECTIONS.items():
        inside = [one for one in SETTINGS if one.key.startswith(f"{name}.")]
        properties[name] = {
            "description": section.__doc__,
            # Null: a section of which every line is commented out.
            **_mapping({one.key.removeprefix(f"{name}."): _property(one) for one in inside}),
        }
    return {
        "$id": f"urn:enclavectl:schema:{CONFIG_FILE}:1",
        "title": "The configuration file (YAML).",
        "description": "Read by every command; `enclavectl config init` writes one that explains itself.",
        **_mapping(properties),
    }


def _mapping(properties: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {"type": ["object", "null"], "properties": dict(properties), "additionalProperties": False}


def _property(one: Setting) -> dict[str, JsonValue]:
    about = (
        f"{one.about} Expects {one.kind.expected}; default: {one.default_text}. Environment: {one.variable}"
    )
    return {"description": about, **one.kind.schema}
