"""A typed reader of the YAML nodes of a policy, with the line of every problem."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

from enclavectl.attestation.codes import PolicyCode, unusable
from enclavectl.attestation.document import PCR_BYTES, PCR_COUNT
from enclavectl.attestation.times import parse_time
from enclavectl.errors import UsageError
from enclavectl.trust import Trust

if TYPE_CHECKING:
    import yaml

_PCR_KEYS = tuple(f"PCR{index}" for index in range(PCR_COUNT))
_HEX = re.compile(rf"[0-9a-f]{{{2 * PCR_BYTES}}}")
_SECONDS = re.compile(r"[0-9]{1,6}")


@contextmanager
def at_place(place: str) -> Iterator[None]:
    """Begin the message of a UsageError in the block with the file's name, and the line if it is known."""
    try:
        yield
    except UsageError as exc:
        raise UsageError(f"{place}: {exc.message}", hint=exc.hint, code=exc.code) from exc


class NodeReader:
    """Turns nodes into values; each method raises a UsageError that begins with ``source:line``."""

    def __init__(self, source: str) -> None:
        """``source`` is the file's name."""
        self._source = source

    def fail(
        self,
        node: yaml.Node | None,
        problem: str,
        *,
        hint: str | None = None,
        code: PolicyCode = PolicyCode.FORMAT,
    ) -> NoReturn:
        """Raise the error for a problem at ``node``, or of the whole file for None."""
        line = f"{node.start_mark.line + 1}: " if node is not None else " "
        raise unusable(code, f"{self._source}:{line}{problem}", hint=hint)

    def at(self, node: yaml.Node) -> AbstractContextManager[None]:
        """Give a rule of a Release or Revocation, broken in the block, the line of ``node``."""
        return at_place(f"{self._source}:{node.start_mark.line + 1}")

    def mapping(
        self, node: yaml.Node | None, known: Iterable[str], *, required: Iterable[str]
    ) -> dict[str, yaml.Node]:
        """Return the members of a mapping by key."""
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

    def sequence(self, node: yaml.Node | None) -> list[yaml.Node]:
        """Return the items of a list; none of an absent one."""
        import yaml

        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, "expected a list")
        return list(node.value)

    def text(self, node: yaml.Node) -> str:
        """Return a scalar's literal text."""
        import yaml

        if not isinstance(node, yaml.ScalarNode):
            self.fail(node, "expected a single value")
        return str(node.value)

    def seconds(self, node: yaml.Node) -> timedelta:
        """Return a whole number of seconds."""
        value = self.text(node)
        if _SECONDS.fullmatch(value) is None:
            self.fail(node, f"expected a whole number of seconds, found {value!r:.60}")
        return timedelta(seconds=int(value))

    def boolean(self, node: yaml.Node) -> bool:
        """Return true or false."""
        value = self.text(node)
        if value not in ("true", "false"):
            self.fail(node, f"expected true or false, found {value!r:.60}")
        return value == "true"

    def trust(self, node: yaml.Node) -> Trust:
        """Return a trust by its name."""
        value = self.text(node)
        try:
            return Trust(value)
        except ValueError:
            self.fail(node, f"accept: expected one of {', '.join(Trust)}, found {value!r:.60}")

    def time(self, node: yaml.Node, name: str) -> datetime:
        """Return a time; ``name`` is its key, for the message."""
        value = self.text(node)
        try:
            return parse_time(value)
        except ValueError as exc:
            self.fail(node, f"{name}: {exc}, found {value!r:.60}")

    def pcrs(self, node: yaml.Node) -> dict[int, bytes]:
        """Return registers by number."""
        found = self.mapping(node, _PCR_KEYS, required=())
        return {int(key.removeprefix("PCR")): self._pcr(value) for key, value in found.items()}

    def _pcr(self, node: yaml.Node) -> bytes:
        value = self.text(node).lower()
        if _HEX.fullmatch(value) is None:
            self.fail(node, f"expected {2 * PCR_BYTES} hex digits, found {value!r:.60}")
        return bytes.fromhex(value)
