"""The page docs/json.md: an example of every schema, as text that can be read back.

tools/json_examples.py makes the examples; tests/schemas/test_examples.py holds the page to the schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enclavectl.schemas.store import load_schema

PAGE = Path(__file__).resolve().parents[1] / "docs" / "json.md"
# In the order of the help page; what every command can print comes first.
OUTPUTS = (
    *("error", "diagnosis", "result", "sent", "answer", "evidence", "receipt", "verification"),
    *("receipt-show", "receipt-extract"),
    *("enclave", "enclaves", "console", "logs", "history"),
    *("terminated", "build-plan", "build", "lock", "lock-check", "eif", "eif-show-files", "pcrs"),
    *("pcrs-files", "eif-verify", "eif-verify-files", "eif-diff", "eif-sign", "eif-extract", "kernel"),
    *(
        "model-show",
        "model-check",
        "model-card-new",
        "model-fetch",
        "model-sealed",
        "model-seal",
        "model-release",
        "release-try",
    ),
    *("policy-change", "policy-show", "policy-check", "policy-explain"),
    *("policy-diff", "policy-kms", "policy-kms-lint", "policy-kms-explain"),
    *("gateway-session", "gateway-token", "gateway-token-list"),
    *("remotes", "remote", "remote-check", "remote-removed", "remote-invite"),
    *("fleet-render", "fleet-check", "fleet-node", "fleet-status"),
    *("page", "setup", "doctor", "plan", "units", "config", "config-path", "selftest", "schemas"),
)
FILES = ("config-file", "policy", "model")
# Longer lists and texts teach nothing more.
_MAX_ITEMS = 2
_MAX_MEMBERS = 4
_MAX_LINES = 6
# Objects with a member for each of many things; all others are shown whole.
# The channels of a picture.
_WHOLE_LISTS = {"mean", "std"}
_LONG_MAPS = {"pcrs", "settings", "DockerInfo", "training", "evaluation"}

_BASE64 = {"document", "key_config", "receipt", "request_statement", "answer_statement"}
_MAX_BASE64 = 60  # characters; each begins a text of kilobytes that says nothing to a reader

_HEAD = """# JSON

`--output json` prints one object on standard output. Its `schema` names its form and the version of
the form: `enclavectl.diagnosis/1`. `enclavectl schema diagnosis` prints the JSON Schema of that
form, which says what each member means and in which unit. A command prints no member that its own
release's schema does not name.

A version changes when a member is removed, renamed or means something else. A new member is no new
version: read what you know and pass over the rest.

Numbers of bytes, MiB, seconds and milliseconds say so in the name or in the schema. Times have
their offset from UTC. Hashes are lower-case hex.

`tools/json_examples.py` made the examples below by running the commands on the backend local, on a
simulated Nitro host and on recorded hosts. Long lists, objects and texts are cut to their
beginnings. Paths, process ids, users and the name of the base image are replaced.

## What commands print
"""
_FILES_HEAD = """
## Files that people write

An editor completes and checks these with a schema:
[Operations](operations.md#files) shows how.
"""
_SECTION = re.compile(
    r"^### (?P<name>[a-z-]+)\n.*?^```\n(?P<command>\$ [^\n]*)\n```\n+```(?:json|yaml)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """The command line that made an example, and the example as text: JSON, or YAML for a file."""

    command: str
    text: str


def render_page(examples: Mapping[str, Example]) -> str:
    """Return the page with an example for each schema."""
    outputs = "\n".join(_section(name, examples[name], "json") for name in OUTPUTS)
    written = "\n".join(_section(name, examples[name], "yaml") for name in FILES)
    return f"{_HEAD}\n{outputs}{_FILES_HEAD}\n{written}"


def read_page(text: str) -> dict[str, Example]:
    """Return the examples of a page by the names of their schemas."""
    return {
        found["name"]: Example(command=found["command"].removeprefix("$ "), text=found["text"])
        for found in _SECTION.finditer(text)
    }


def _section(name: str, example: Example, form: str) -> str:
    schema: Any = load_schema(name)
    about = f"{schema['title']} {schema['description']}"
    return (
        f"### {name}\n\n{_wrapped(about)}\n\n```\n$ {example.command}\n```\n\n```{form}\n{example.text}```\n"
    )


def _wrapped(text: str) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > 99:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def to_text(value: object, replacements: Mapping[str, str]) -> str:
    """Return an object as the page shows it: cut, and with neutral names for what is of this machine."""
    text = json.dumps(_neutral(_cut(value, "")), indent=2) + "\n"
    for found, neutral in replacements.items():
        text = text.replace(found, neutral)
    return text


def _cut(value: object, key: str) -> object:
    if isinstance(value, dict):
        members = list(value.items())
        kept = members[:_MAX_MEMBERS] if key in _LONG_MAPS else members
        return {name: _cut(item, name) for name, item in kept}
    if isinstance(value, list) and key not in _WHOLE_LISTS:
        return [_cut(item, key) for item in value[:_MAX_ITEMS]]
    if key in _BASE64 and isinstance(value, str):
        return value[:_MAX_BASE64]
    if isinstance(value, str) and value.count("\n") > _MAX_LINES:
        return "\n".join(value.split("\n")[:_MAX_LINES]) + "\n"
    return value


def _neutral(value: object, key: str = "") -> object:
    if isinstance(value, dict):
        return {name: _neutral(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_neutral(item, key) for item in value]
    if key == "pid" and value is not None:
        return 4242
    return "ada" if key in {"owner", "user"} and value is not None else value
