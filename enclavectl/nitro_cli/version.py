"""Releases of nitro-cli, and the oldest supported one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, order=True)
class NitroVersion:
    """A release of nitro-cli; releases compare by age."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the line of ``nitro-cli --version``: ``Nitro CLI 1.5.0``.

        Raises:
            ValueError: the text has no version.
        """
        match = re.search(r"(?:^|\s)([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})", text[:200])
        if match is None:
            raise ValueError(f"expected a line such as Nitro CLI 1.5.0, found {text[:60]!r}")
        return cls(*map(int, match.groups()))


# This release introduced names of enclaves, which all our commands pass.
OLDEST = NitroVersion(1, 1, 0)
