"""One locked wheel, as the lock names it and the build installs it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One locked wheel; ``name`` is normalized as in PEP 503."""

    name: str
    version: str
    file: str
    sha256: str

    def to_json(self) -> dict[str, str]:
        """Return the object in the lock."""
        return {"name": self.name, "version": self.version, "file": self.file, "sha256": self.sha256}
