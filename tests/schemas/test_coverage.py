"""Every form that the code names has a schema or is private; closed lists of words are those of the code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from enclave_payload.verdict import Remark
from enclavectl.backends.state import EnclaveState
from enclavectl.config.load import SETTINGS
from enclavectl.config.schema import CONFIG_FILE
from enclavectl.eif.compare.cause import ChangeKind
from enclavectl.eif.findings import Severity
from enclavectl.eif.format import Arch, SectionKind
from enclavectl.eif.ramdisk.ramdisks import Mode
from enclavectl.errors import EnclavectlError
from enclavectl.gateway.tally import Carrier, Outcome
from enclavectl.host.checks.base import Group, State
from enclavectl.host.distro import Family
from enclavectl.host.steps import StepState
from enclavectl.image.findings import Rule
from enclavectl.kms.findings import Severity as KeyPolicySeverity
from enclavectl.schemas.store import load_schema, schema_names
from enclavectl.trust import Trust

ROOT = Path(__file__).resolve().parents[2]
# Forms of files that only enclavectl itself reads, and may change with any release.
PRIVATE = {
    "announcement": "a file by which run tells a gateway of an enclave",
    "gateway-tokens": "the hashes of a gateway's tokens; gateway token list prints what may be known",
    "history-entry": "a file of the state folder; history and logs print what is in it",
    "invitation": "the inside of an invitation; remote add --from reads what remote invite wrote",
    "local-enclave": "the record of a running enclave in the state folder; list and describe print it",
    "model-key": "the key file of a sealed model; it is a secret",
    "nitro-acceptance": "the report of make nitro-acceptance; docs/acceptance.md describes it",
    "nitro-enclave": "the record of a running enclave in the state folder; list and describe print it",
    "page-config": "the inside of a patient's page, which only the page's own script reads",
    "pending": "a reply key that waits in the state folder; it is a secret",
    "remote-record": "a file of the state folder; remote show prints what is in it",
    "qemu-enclave": "the record of a running enclave in the state folder; list and describe print it",
    "protocol-vectors": "test data for other implementations; tests/vectors/README.md describes it",
}
_LITERAL = re.compile(r'"enclavectl\.([a-z-]+)/([0-9]+)"')


def literals() -> dict[str, str]:
    """Each form that the code names, with its version."""
    sources = (path for folder in ("enclavectl", "tools") for path in (ROOT / folder).rglob("*.py"))
    found = {one for path in sources for one in _LITERAL.findall(path.read_text())}
    assert len(found) == len(dict(found)), "a form has one version"
    return dict(found)


def test_every_form_in_the_code_has_a_schema_or_is_private() -> None:
    assert literals().keys() == {*schema_names(), *PRIVATE} - {CONFIG_FILE}
    assert not PRIVATE.keys() & set(schema_names())


def at(name: str, *path: str | int) -> Any:
    value: Any = load_schema(name)
    for step in path:
        value = value[step]
    return value


def shared(name: str, definition: str, *path: str | int) -> Any:
    return at(name, "$defs", definition, *path)


def values(members: type[Enum]) -> list[object]:
    return [member.value for member in members]


def subclasses(root: type[EnclavectlError]) -> Iterable[type[EnclavectlError]]:
    for one in root.__subclasses__():
        yield one
        yield from subclasses(one)


def test_the_outcomes_of_sessions_are_those_of_the_code() -> None:
    assert at("gateway-session", "properties", "outcome", "enum") == values(Outcome)
    assert at("gateway-session", "properties", "transport", "enum") == values(Carrier)


def test_the_kinds_of_errors_and_their_exit_codes_are_those_of_the_code() -> None:
    for path in (ROOT / "enclavectl").rglob("*.py"):
        if re.search(r'^    kind = "', path.read_text(), re.MULTILINE):
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found = {one for one in subclasses(EnclavectlError) if one.__module__.startswith("enclavectl.")}
    assert set(shared("error", "error", "properties", "kind", "enum")) == {one.kind for one in found}
    codes = set(shared("error", "error", "properties", "exit_code", "enum"))
    assert codes == {one.exit_code for one in found}


STEP = ("properties", "steps", "items", "properties", "state", "enum")
FINDING = ("properties", "findings", "items", "properties")
CHECK = ("properties", "checks", "items", "properties")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (shared("enclave", "trust", "enum"), values(Trust)),
        (shared("enclave", "enclave", "properties", "state", "enum"), values(EnclaveState)),
        (at("policy", "properties", "accept", "items", "enum"), [one for one in Trust if one != "debug"]),
        (shared("lock", "lint-finding", "properties", "rule", "enum"), values(Rule)),
        (at("lock", "properties", "mode", "enum"), values(Mode)),
        (at("setup", *STEP), values(StepState)),
        (at("setup", "properties", "distribution", "properties", "family", "enum"), values(Family)),
        (at("doctor", *CHECK, "state", "enum"), values(State)),
        (at("doctor", "properties", "counts", "required"), values(State)),
        (at("doctor", *CHECK, "group", "enum"), values(Group)),
        (shared("eif-verify", "eif-finding", "properties", "severity", "enum"), values(Severity)),
        (at("policy-kms-lint", *FINDING, "severity", "enum"), values(KeyPolicySeverity)),
        (at("eif-diff", "properties", "changes", "items", "properties", "what", "enum"), values(ChangeKind)),
        (
            at("eif-extract", "properties", "files", "items", "properties", "kind", "enum"),
            [kind.name.lower() for kind in SectionKind],
        ),
        (
            shared("eif", "eif-object", "properties", "enclavectl", "properties", "architecture", "enum"),
            values(Arch),
        ),
        (
            shared("answer", "answer-warnings", "items", "properties", "code", "enum"),
            values(Remark),
        ),
    ],
    ids=lambda _: "",
)
def test_a_closed_list_of_words_is_that_of_the_code(found: list[str], expected: list[str]) -> None:
    assert found == expected


def test_the_settings_of_the_file_are_all_settings() -> None:
    properties = at(CONFIG_FILE, "properties")
    keys = [
        f"{name}.{inside}" if "properties" in about else name
        for name, about in properties.items()
        for inside in about.get("properties", {"": None})
    ]
    assert sorted(keys) == sorted(one.key for one in SETTINGS)
