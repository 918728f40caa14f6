"""Policies as YAML files that people write, review and keep beside the release notes.

The file is read as YAML nodes, never as Python values. Every scalar is its literal text, so ``no``,
``1e3`` and ``0777`` mean what they look like. Every problem has a line number. Aliases, merge keys,
duplicate keys and tags are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

from enclavectl.attestation.document import PCR_BYTES
from enclavectl.attestation.policy import Policy, Release
from enclavectl.errors import UsageError
from enclavectl.trust import Trust

if TYPE_CHECKING:
    import yaml

SCHEMA = "enclavectl.policy/1"
MAX_POLICY_BYTES = 256 * 1024  # 64 releases with all 32 registers take about 210 KiB

_TOP_KEYS = ("schema", "accept", "releases", "max_age_s", "clock_skew_s", "unsafe_allow_debug")
_RELEASE_KEYS = ("name", "pcrs")
_PCR_KEYS = tuple(f"PCR{index}" for index in range(32))
_HEX = re.compile(rf"[0-9a-f]{{{2 * PCR_BYTES}}}")
_SECONDS = re.compile(r"[0-9]{1,6}")


def parse_policy(text: str, *, source: str) -> Policy:
    """Read a policy; ``source`` is the file's name, for messages.

    Raises:
        UsageError: not YAML, a key is unknown (the message names the nearest one), missing or
            duplicate, a value does not fit, or the policy breaks a rule of Policy or Release.
    """
    # Imported here: `enclavectl --help` and the simulated NSM do not need PyYAML.
    from enclavectl.yaml_file import compose_yaml

    if len(text.encode(errors="replace")) > MAX_POLICY_BYTES:
        raise UsageError(f"{source}: expected at most {MAX_POLICY_BYTES} bytes")
    root = compose_yaml(text, name=source)
    reader = _Reader(source)
    top = reader.mapping(root, _TOP_KEYS, required=("schema", "accept"))
    schema = reader.text(top["schema"])
    if schema != SCHEMA:
        reader.fail(top["schema"], f"schema: expected {SCHEMA}, found {schema!r:.60}")
    optional: dict[str, timedelta] = {}
    if "max_age_s" in top:
        optional["max_age"] = reader.seconds(top["max_age_s"])
    if "clock_skew_s" in top:
        optional["clock_skew"] = reader.seconds(top["clock_skew_s"])
    accept = frozenset(reader.trust(node) for node in reader.sequence(top["accept"]))
    releases = (
        [reader.release(node) for node in reader.sequence(top["releases"])] if "releases" in top else []
    )
    unsafe = "unsafe_allow_debug" in top and reader.boolean(top["unsafe_allow_debug"])
    try:
        return Policy(accept=accept, releases=tuple(releases), unsafe_allow_debug=unsafe, **optional)
    except UsageError as exc:
        raise UsageError(f"{source}: {exc.message}", hint=exc.hint) from exc


def render_policy(policy: Policy) -> str:
    """Write YAML that ``parse_policy`` reads as an equal policy (durations in whole seconds)."""
    lines = [
        f"schema: {SCHEMA}",
        f"accept: [{', '.join(sorted(policy.accept))}]",
        f"max_age_s: {policy.max_age // timedelta(seconds=1)}",
        f"clock_skew_s: {policy.clock_skew // timedelta(seconds=1)}",
        f"unsafe_allow_debug: {str(policy.unsafe_allow_debug).lower()}",
        "releases:" if policy.releases else "releases: []",
    ]
    for release in policy.releases:
        # A single-quoted scalar holds any printable text unchanged, except the quote itself.
        quoted = release.name.replace("'", "''")
        lines += [f"  - name: '{quoted}'", "    pcrs:"]
        lines += [f"      PCR{index}: '{value.hex()}'" for index, value in release.pcrs.items()]
    return "\n".join(lines) + "\n"


class _Reader:
    """A typed reader of YAML nodes."""

    def __init__(self, source: str) -> None:
        self._source = source

    def fail(self, node: yaml.Node | None, problem: str, hint: str | None = None) -> NoReturn:
        line = f"{node.start_mark.line + 1}: " if node is not None else " "
        raise UsageError(f"{self._source}:{line}{problem}", hint=hint)

    def mapping(
        self, node: yaml.Node | None, known: Iterable[str], *, required: Iterable[str]
    ) -> dict[str, yaml.Node]:
        import yaml

        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"expected a mapping with the keys {', '.join(required)}")
        known = tuple(known)
        found: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            key = self.text(key_node)
            if key not in known:
                near = get_close_matches(key, known, n=1, cutoff=0.0)
                self.fail(key_node, f"unknown key {key!r:.60}", hint=f"The nearest known key is {near[0]}.")
            if key in found:
                self.fail(key_node, f"the key {key} stands here twice")
            found[key] = value_node
        for key in required:
            if key not in found:
                self.fail(node, f"missing key {key}")
        return found

    def sequence(self, node: yaml.Node) -> list[yaml.Node]:
        import yaml

        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, "expected a list")
        return list(node.value)

    def text(self, node: yaml.Node) -> str:
        import yaml

        if not isinstance(node, yaml.ScalarNode):
            self.fail(node, "expected a single value")
        return str(node.value)

    def seconds(self, node: yaml.Node) -> timedelta:
        value = self.text(node)
        if _SECONDS.fullmatch(value) is None:
            self.fail(node, f"expected a whole number of seconds, found {value!r:.60}")
        return timedelta(seconds=int(value))

    def boolean(self, node: yaml.Node) -> bool:
        value = self.text(node)
        if value not in ("true", "false"):
            self.fail(node, f"expected true or false, found {value!r:.60}")
        return value == "true"

    def trust(self, node: yaml.Node) -> Trust:
        value = self.text(node)
        try:
            return Trust(value)
        except ValueError:
            self.fail(node, f"accept: expected one of {', '.join(Trust)}, found {value!r:.60}")

    def release(self, node: yaml.Node) -> Release:
        fields = self.mapping(node, _RELEASE_KEYS, required=_RELEASE_KEYS)
        pcrs = self.mapping(fields["pcrs"], _PCR_KEYS, required=())
        name = self.text(fields["name"])
        values = {int(key.removeprefix("PCR")): self._pcr(value) for key, value in pcrs.items()}
        try:
            return Release(name=name, pcrs=values)
        except UsageError as exc:
            self.fail(node, exc.message, exc.hint)

    def _pcr(self, node: yaml.Node) -> bytes:
        value = self.text(node).lower()
        if _HEX.fullmatch(value) is None:
            self.fail(node, f"expected {2 * PCR_BYTES} hex digits, found {value!r:.60}")
        return bytes.fromhex(value)
