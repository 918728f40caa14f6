"""What a ``.dockerignore`` leaves out, as the Docker SDK understands it.

https://docs.docker.com/build/concepts/context/#dockerignore-files
"""

from __future__ import annotations

from collections.abc import Sequence


class Ignored:
    """Decides by the lines of the file: the last that matches counts, and one with ``!`` takes it back."""

    def __init__(self, lines: Sequence[str]) -> None:
        """``lines`` are neither empty nor comments."""
        from docker.utils.build import PatternMatcher

        self.has_exceptions = any(line.startswith("!") for line in lines)
        self._matcher = PatternMatcher(lines)

    def matches(self, name: str) -> bool:
        """Whether the file or folder of this name, relative to the context, is left out."""
        return bool(self._matcher.matches(name))  # type: ignore[arg-type]  # the stubs want a path; it wants text
