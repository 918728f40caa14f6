"""Policies as YAML files that people write, review and keep beside the release notes.

The file is read as YAML nodes, never as Python values. Every scalar is its literal text, so ``no``,
``1e3``, ``0777`` and ``2027-01-31`` mean what they look like. Every problem has a line number. Aliases, merge
keys, duplicate keys and tags are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from enclavectl.attestation.codes import PolicyCode, unusable
from enclavectl.attestation.policy import Policy
from enclavectl.attestation.policy_nodes import NodeReader, at_place
from enclavectl.attestation.release import Release, Revocation
from enclavectl.attestation.times import render_time
from enclavectl.errors import UsageError

if TYPE_CHECKING:
    import yaml

SCHEMA = "enclavectl.policy/2"
# 64 releases with all 32 registers and full notes, and as many revocations, take 490 KiB. PyYAML needs up to
# nine seconds for a megabyte of short words.
MAX_POLICY_BYTES = 512 * 1024

_TOP_KEYS = ("schema", "accept", "releases", "revoked", "max_age_s", "clock_skew_s", "unsafe_allow_debug")
_RELEASE_KEYS = ("name", "not_before", "expires", "notes", "pcrs")
_REVOKED_KEYS = ("name", "label", "pcrs", "date", "reason")
_LOCK_HINT = "this is a lock: name it with --lock, or make a policy of it: enclavectl policy new --from-lock"
_VERSIONED = re.compile(r"enclavectl\.policy/([0-9]{1,6})")


def parse_policy(text: str, *, source: str) -> Policy:
    """Read a policy; ``source`` is the file's name, for messages.

    Raises:
        UsageError: not YAML, of another version, a key is unknown (the hint names the nearest one), missing
            or duplicate, a value does not fit, or the policy breaks a rule of Policy, Release or Revocation.
            ``code`` is a PolicyCode.
    """
    root = compose_policy(text, source=source)
    reader = NodeReader(source)
    _check_version(reader, root)
    top = reader.mapping(root, _TOP_KEYS, required=("schema", "accept"))
    optional: dict[str, timedelta] = {}
    if "max_age_s" in top:
        optional["max_age"] = reader.seconds(top["max_age_s"])
    if "clock_skew_s" in top:
        optional["clock_skew"] = reader.seconds(top["clock_skew_s"])
    accept = frozenset(reader.trust(node) for node in reader.sequence(top["accept"]))
    releases = [_release(reader, node) for node in reader.sequence(top.get("releases"))]
    revoked = [_revocation(reader, node) for node in reader.sequence(top.get("revoked"))]
    unsafe = "unsafe_allow_debug" in top and reader.boolean(top["unsafe_allow_debug"])
    with at_place(source):
        return Policy(
            accept=accept,
            releases=tuple(releases),
            revoked=tuple(revoked),
            unsafe_allow_debug=unsafe,
            **optional,
        )


def decode_policy(data: bytes, *, source: str) -> str:
    """Decode the bytes of a policy file.

    Raises:
        UsageError: not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        found = f"byte 0x{data[exc.start]:02x}"
        raise unusable(PolicyCode.FORMAT, f"{source}:{line}: expected UTF-8 text, found {found}") from exc


def compose_policy(text: str, *, source: str) -> yaml.Node | None:
    """Read the text as YAML nodes, None for an empty one; nothing of a policy is checked.

    Raises:
        UsageError: too long, or not YAML.
    """
    # Imported here: `enclavectl --help` and the simulated NSM do not need PyYAML.
    from enclavectl.yaml_file import compose_yaml

    if len(text.encode(errors="replace")) > MAX_POLICY_BYTES:
        raise unusable(PolicyCode.FORMAT, f"{source}: expected at most {MAX_POLICY_BYTES} bytes")
    try:
        return compose_yaml(text, name=source)
    except UsageError as exc:
        raise unusable(PolicyCode.FORMAT, exc.message, hint=exc.hint) from exc


def _check_version(reader: NodeReader, root: yaml.Node | None) -> None:
    """Refuse another version by name, before its unknown keys."""
    import yaml

    members = root.value if isinstance(root, yaml.MappingNode) else []
    for key, value in members:
        if not isinstance(key, yaml.ScalarNode) or key.value != "schema":
            continue
        schema = reader.text(value)
        version = _VERSIONED.fullmatch(schema)
        if version is not None and schema != SCHEMA:
            hint = (
                f"Version 2 has all of version 1: write schema: {SCHEMA}, then enclavectl policy check it."
                if version[1] == "1"
                else "Use an enclavectl that reads this version, or write a new file: enclavectl policy new."
            )
            reader.fail(
                value, f"schema: expected {SCHEMA}, found {schema}", hint=hint, code=PolicyCode.VERSION
            )
        if schema != SCHEMA:
            other = _LOCK_HINT if schema.startswith("enclavectl.lock/") else None
            reader.fail(value, f"schema: expected {SCHEMA}, found {schema!r:.60}", hint=other)


def _release(reader: NodeReader, node: yaml.Node) -> Release:
    fields = reader.mapping(node, _RELEASE_KEYS, required=("name", "pcrs"))
    name = reader.text(fields["name"])
    pcrs = reader.pcrs(fields["pcrs"])
    notes = reader.text(fields["notes"]) if "notes" in fields else ""
    life = {key: reader.time(fields[key], key) for key in ("not_before", "expires") if key in fields}
    with reader.at(node):
        return Release(name=name, pcrs=pcrs, notes=notes, **life)


def _revocation(reader: NodeReader, node: yaml.Node) -> Revocation:
    fields = reader.mapping(node, _REVOKED_KEYS, required=("date", "reason"))
    texts = {key: reader.text(fields[key]) for key in ("name", "label") if key in fields}
    pcrs = reader.pcrs(fields["pcrs"]) if "pcrs" in fields else None
    date = reader.time(fields["date"], "date")
    reason = reader.text(fields["reason"])
    with reader.at(node):
        return Revocation(
            date=date,
            reason=reason,
            pcrs=pcrs,
            name=texts.get("name", ""),
            label=texts.get("label"),
        )


def render_policy(policy: Policy) -> str:
    """Write YAML that ``parse_policy`` reads as an equal policy (durations in whole seconds)."""
    lines = [
        f"schema: {SCHEMA}",
        f"accept: [{', '.join(sorted(policy.accept))}]",
        f"max_age_s: {policy.max_age // timedelta(seconds=1)}",
        f"clock_skew_s: {policy.clock_skew // timedelta(seconds=1)}",
        f"unsafe_allow_debug: {str(policy.unsafe_allow_debug).lower()}",
    ]
    # Before the releases: a file that was cut short lacks releases rather than revocations.
    if policy.revoked:
        lines.append("revoked:")
    for revocation in policy.revoked:
        lines += render_item(revocation_lines(revocation), indent=2)
    lines.append("releases:" if policy.releases else "releases: []")
    for release in policy.releases:
        lines += render_item(release_lines(release), indent=2)
    return "\n".join(lines) + "\n"


def render_item(lines: list[str], *, indent: int) -> list[str]:
    """Make the lines of a mapping an item of a list whose dashes are ``indent`` columns in."""
    first, *rest = lines
    return [f"{' ' * indent}- {first}", *(f"{' ' * indent}  {line}" for line in rest)]


def release_lines(release: Release) -> list[str]:
    """Write a release as the lines of a mapping."""
    lines = [f"name: {quoted(release.name)}"]
    if release.not_before is not None:
        lines.append(f"not_before: {quoted(render_time(release.not_before))}")
    if release.expires is not None:
        lines.append(f"expires: {quoted(render_time(release.expires))}")
    if release.notes:
        lines.append(f"notes: {quoted(release.notes)}")
    return [*lines, *_pcr_lines(release.pcrs)]


def revocation_lines(revocation: Revocation) -> list[str]:
    """Write a revocation as the lines of a mapping."""
    lines = [f"name: {quoted(revocation.name)}"] if revocation.name else []
    lines += [
        f"date: {quoted(render_time(revocation.date))}",
        f"reason: {quoted(revocation.reason)}",
    ]
    if revocation.label is not None:
        return [*lines, f"label: {quoted(revocation.label)}"]
    return [*lines, *_pcr_lines(revocation.pcrs or {})]


def quoted(text: str) -> str:
    """Quote printable text with line ends for YAML."""
    if "\n" not in text:
        # A single-quoted scalar holds any printable text unchanged, except the quote itself.
        return "'" + text.replace("'", "''") + "'"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _pcr_lines(pcrs: Mapping[int, bytes]) -> list[str]:
    return ["pcrs:", *(f"  PCR{index}: '{value.hex()}'" for index, value in pcrs.items())]
