"""One JSON object that is written while its list is still growing, so that the list needs no memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

_INDENT = "  "


class JsonStream:
    """An object with one list in the middle, written as ``json.dumps(value, indent=2)`` writes it whole."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """``write`` takes each part of the text."""
        self._write = write
        self._items = 0

    def begin(self, head: Mapping[str, object], name: str) -> None:
        """Write the members before the list, of which there is one at least, and begin the list ``name``."""
        text = json.dumps(head, indent=2).removesuffix("\n}")
        self._write(f"{text},\n{_INDENT}{json.dumps(name)}: [")

    def item(self, value: object) -> None:
        """Write the list's next value."""
        lines = json.dumps(value, indent=2).replace("\n", f"\n{_INDENT * 2}")
        self._write(f"{',' if self._items else ''}\n{_INDENT * 2}{lines}")
        self._items += 1

    def end(self, tail: Mapping[str, object]) -> None:
        """End the list, and write the members after it, of which there is one at least."""
        text = json.dumps(tail, indent=2).removeprefix("{")
        self._write(f"{f'{chr(10)}{_INDENT}' if self._items else ''}],{text}\n")
