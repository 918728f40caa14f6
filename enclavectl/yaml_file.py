"""Strict YAML: the part that configuration files, model cards and policies need, with line numbers.

Accepted is one document of mappings, sequences and scalars. Plain scalars are typed by the core schema of
YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), decimal numbers only, so that ``no`` and ``12:30``
stay text, which PyYAML's own YAML 1.1 rules turn into a boolean and 750. Refused are duplicate keys, keys
that are not text, anchors and aliases (a few lines of them can stand for gigabytes), tags, deep nesting, and
characters by which a file looks like another one.

This module imports PyYAML, which is slow: import it only when there is a file to read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from enclavectl.errors import UsageError
from enclavectl.suggest import suggestion

# Our deepest file has four levels. PyYAML's composer recurses without a bound, so we set one.
MAX_DEPTH = 16
# The largest file of ours is a policy of 64 releases with 32 registers each: 4,400 nodes. PyYAML takes some
# 50 us for a node, so a quarter of a megabyte of "[a,a,a" would take it ten seconds and more.
MAX_NODES = 10_000

Scalar: TypeAlias = str | int | float | bool | None
Plain: TypeAlias = "Scalar | list[Plain] | dict[str, Plain]"

_KEYWORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
# What one program shows as the end of a line and another as nothing, and what turns the direction of a line.
# PyYAML begins a line behind the former, as YAML 1.1 does: a reviewer could see a comment, and it a setting.
# https://yaml.org/spec/1.2.2/#54-line-break-characters; https://trojansource.codes/trojan-source.pdf
_MISLEADING = re.compile(r"\r(?!\n)|[\x85\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# 18 digits fit in 64 bits; int() is quadratic in the digits, and raises ValueError for thousands of them.
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,4})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value and the line, counted from 1, of its key, or of the value if it has no key.

    ``text`` is a plain scalar as it is written: a decimal number, before it became a double.
    """

    value: Scalar | list[Node] | dict[str, Node]
    line: int
    text: str = field(default="", compare=False)

    def to_plain(self) -> Plain:
        """Return the value without line numbers."""
        if isinstance(self.value, dict):
            return {key: node.to_plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.to_plain() for node in self.value]
        return self.value


def parse_yaml(data: bytes, *, name: str) -> Node:
    """Parse the one document in ``data``; an empty file is a null. ``name`` names the file in messages.

    Raises:
        UsageError: not UTF-8, not YAML, or YAML that is refused here; the message begins with ``name:line``.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise UsageError(f"{name}:{line}: expected UTF-8 text, found byte 0x{data[exc.start]:02x}") from exc
    root = compose_yaml(text, name=name)
    return Node(value=None, line=1) if root is None else _build(root, root.start_mark.line + 1, name)


def compose_yaml(text: str, *, name: str) -> yaml.Node | None:
    """Read the one document in ``text`` as nodes whose scalars are text; None for an empty one.

    The caller bounds the length: time and memory are linear in it, and in the nodes, of which there are at
    most ``MAX_NODES``.

    Raises:
        UsageError: not YAML, or YAML that is refused here; the message begins with ``name:line``.
    """
    if (found := _MISLEADING.search(text)) is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise UsageError(
            f"{name}:{line}: expected lines that end in LF or CRLF and have one direction, found "
            f"U+{ord(found[0]):04X}, which can hide what stands behind it",
            hint="write the line anew",
        )
    try:
        root: yaml.Node | None = _StrictLoader(text).get_single_node()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = ", ".join(part for part in (exc.context, exc.problem) if part)
        raise UsageError(f"{name}:{mark.line + 1 if mark else 1}: {problem}") from exc
    # PyYAML lets ValueError and OverflowError out for escapes beyond Unicode and absurd %YAML versions.
    except (yaml.YAMLError, ValueError, OverflowError) as exc:
        problem = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise UsageError(f"{name}:1: cannot be read as YAML ({problem})") from exc
    return root


def refuse_unknown(mapping: dict[str, Node], known: Collection[str], *, name: str, where: str = "") -> None:
    """Refuse a key that is not in ``known``. ``where`` is the path of the mapping, such as "diagnose".

    Raises:
        UsageError: a key is unknown; the message names file, line, key and the nearest known key.
    """
    for key, node in mapping.items():
        if key not in known:
            full = f"{where}.{key}" if where else key
            shown = full if len(full) <= 80 else full[:77] + "..."
            raise UsageError(f"{name}:{node.line}: unknown key {shown!r}; {suggestion(key, known)}")


class _StrictLoader(yaml.BaseLoader):
    """PyYAML without construction, without aliases and tags, and with bounded depth and nodes."""

    _depth = 0
    _nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs lack it
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are not accepted", problem_mark=event.start_mark
            )
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem="tags are not accepted", problem_mark=event.start_mark)
        if self._depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"expected at most {MAX_DEPTH} levels, found more", problem_mark=event.start_mark
            )
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(
                problem=f"expected at most {MAX_NODES:,} values, found more", problem_mark=event.start_mark
            )
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _build(node: yaml.Node, line: int, name: str) -> Node:
    if isinstance(node, yaml.ScalarNode):
        return Node(value=_scalar(node, name), line=line, text=node.value if node.style is None else "")
    if isinstance(node, yaml.SequenceNode):
        return Node(value=[_build(item, item.start_mark.line + 1, name) for item in node.value], line=line)
    mapping: dict[str, Node] = {}
    for key_node, value_node in node.value:
        key_line = key_node.start_mark.line + 1
        key = _scalar(key_node, name) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise UsageError(f"{name}:{key_line}: expected a text key, found something else")
        if key in mapping:
            raise UsageError(
                f"{name}:{key_line}: key {key[:80]!r} is given twice, first on line {mapping[key].line}"
            )
        mapping[key] = _build(value_node, key_line, name)
    return Node(value=mapping, line=line)


def _scalar(node: yaml.ScalarNode, name: str) -> Scalar:
    text: str = node.value
    line = node.start_mark.line + 1
    if node.style is not None:  # quoted or block text
        return _text(text, line, name)
    if text.lower() in _KEYWORDS and text in {text.lower(), text.upper(), text.title()}:
        return _KEYWORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return number
        raise UsageError(f"{name}:{line}: expected a number within the range of a double, found {text}")
    return _text(text, line, name)


def _text(text: str, line: int, name: str) -> str:
    # Escapes can write characters that a file cannot hold: a NUL ends a path, a lone surrogate breaks
    # encoders.
    for char in text:
        if (char < " " and char not in "\n\t") or "\ud800" <= char <= "\udfff" or char == "\x7f":
            raise UsageError(
                f"{name}:{line}: expected text without control characters, found U+{ord(char):04X}"
            )
    return text
