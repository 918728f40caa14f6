"""A ``.dockerignore``: the lines of the file, and what they leave out of a build context.

Tests compare it with Docker's own reader and matcher, moby/patternmatcher 0.6.0. The Docker SDK has a matcher
too, but it differs: ``[^a]*.csv`` matches other files there, and it ignores the case of letters.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.files import is_regular, read_bounded
from enclavectl.image.ignore_pattern import compile_pattern

_MAX_FILE = 1 << 20  # bytes; every pattern is tried on every path, and people write this file by hand
_MAX_LINE = 1 << 16  # Docker's scanner refuses longer ones
# Go's unicode.IsSpace; str.strip() alone would strip four more control characters.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    chr(code) for code in range(0x2000, 0x200B)
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a path is left out, and which patterns match it or a folder above it."""

    is_left_out: bool
    matched: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class _Pattern:
    matches: Callable[[str], bool]
    takes_back: bool


class IgnoreRules:
    """The patterns of an ignore file. The last match decides; ``!`` includes a path again."""

    def __init__(self, lines: Sequence[str] = ()) -> None:
        """``lines`` are those of ``ignore_lines``.

        Raises:
            UsageError: one of them is no pattern.
        """
        self._patterns = tuple(_pattern(line) for line in lines)
        self.has_exceptions = any(pattern.takes_back for pattern in self._patterns)

    def judge(self, path: str, above: Verdict | None) -> Verdict:
        """Judge ``path``; ``above`` is the verdict on its folder, or None at the top."""
        is_left_out, matched = False, []
        for number, pattern in enumerate(self._patterns):
            found = above is not None and above.matched[number]
            # As in Docker, a pattern that could change nothing is neither tried nor recorded as a match.
            if not found and pattern.takes_back == is_left_out:
                found = pattern.matches(path)
            matched.append(found)
            if found:
                is_left_out = not pattern.takes_back
        return Verdict(is_left_out, tuple(matched))


def read_ignore_rules(path: Path) -> IgnoreRules:
    """Read an ignore file; a missing file has no rules.

    Raises:
        UsageError: a line is no pattern, or the file cannot be read or is larger than 1 MiB.
    """
    if not is_regular(path):
        return IgnoreRules()
    data = read_bounded(path, _MAX_FILE, what="list of ignored files")
    try:
        return IgnoreRules(ignore_lines(data))
    except UsageError as exc:
        raise UsageError(f"{path}: {exc.message}", hint=exc.hint, code=exc.code) from exc


def ignore_lines(data: bytes) -> list[str]:
    """Split a file into its patterns as Docker's reader does.

    Bytes that are not UTF-8 are decoded with ``surrogateescape``.

    Raises:
        UsageError: a line has 64 KiB or more.
    """
    patterns = []
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if len(line) >= _MAX_LINE:
            raise UsageError(f"expected lines of less than {_MAX_LINE} bytes", code="dockerignore")
        text = line.decode("utf-8", "surrogateescape")
        if text.startswith("#"):
            continue
        text = text.strip(_SPACES)
        if not text:
            continue
        mark = "!" if text.startswith("!") else ""
        text = text.removeprefix("!").strip(_SPACES) if mark else text
        if text:
            text = _clean(text)
            text = text[1:] if len(text) > 1 and text.startswith("/") else text
        patterns.append(mark + text)
    return patterns


def _pattern(line: str) -> _Pattern:
    text = _clean(line.strip(_SPACES))
    if text == "!":
        raise UsageError(
            "a line with nothing but '!'",
            hint="name behind it what is to be sent after all, such as !README.md",
            code="dockerignore",
        )
    mark = text.startswith("!")
    return _Pattern(compile_pattern(text[1:] if mark else text), mark)


def _clean(path: str) -> str:
    """Clean a path like Go's ``filepath.Clean``: ``normpath``, but two leading slashes become one."""
    return posixpath.normpath(re.sub(r"\A//+", "/", path))
