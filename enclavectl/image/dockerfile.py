"""A Dockerfile as a list of instructions, as far as checks before a build need it.

The rules are BuildKit's (frontend/dockerfile/parser): parser directives at the top, lines continued by an
escape character, comments between them, flags after the instruction, and heredocs of RUN, COPY and ADD.

https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from enclavectl.files import read_bounded

MAX_DOCKERFILE = 1 << 20  # bytes; people write Dockerfiles by hand, and none comes near this
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_HEREDOC = re.compile(r"[0-9]*<<(-?)([^<]+)")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")
# A shell word with its quotes and escapes.
_WORD = re.compile(r"(?:[^\s\"'\\]|\\.|\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|\\$)+", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction: ``line`` is its first line, ``flags`` such as ``--chmod`` stand before its ``text``.

    ``name`` is in upper case; for ONBUILD it is the inner instruction's. ``heredocs`` are the bodies.
    """

    line: int
    name: str
    flags: tuple[str, ...]
    text: str
    heredocs: tuple[str, ...] = ()
    is_deferred: bool = False

    def words(self) -> list[str]:
        """Split the text into shell words, quotes included."""
        return _WORD.findall(self.text)

    def argv(self) -> list[str] | None:
        """Return the words of the JSON form; None for the shell's, which may begin with a bracket too."""
        try:
            words = json.loads(self.text) if self.text.startswith("[") else None
        except (ValueError, RecursionError):
            return None
        return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A Dockerfile's directives, by their names in lower case, and its instructions."""

    directives: Mapping[str, str] = field(default_factory=dict)
    instructions: tuple[Instruction, ...] = ()


def read_dockerfile(path: Path) -> Dockerfile:
    """Read and parse the Dockerfile at ``path``.

    Raises:
        UsageError: the file cannot be read, or is larger than 1 MiB.
    """
    text = read_bounded(path, MAX_DOCKERFILE, what="Dockerfile").decode(errors="replace")
    return parse_dockerfile(text)


def parse_dockerfile(text: str) -> Dockerfile:
    """Parse any text as a Dockerfile; Docker refuses what is not valid."""
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    directives = _directives(lines)
    escape = directives.get("escape", "\\")
    return Dockerfile(directives=directives, instructions=tuple(_instructions(lines, escape)))


def _directives(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() in found:
            break
        found[match[1].lower()] = match[2]
    return found


def _instructions(lines: list[str], escape: str) -> Iterator[Instruction]:
    numbered = iter(enumerate(lines, 1))
    first, parts = 0, list[str]()
    for number, line in numbered:
        if line.lstrip().startswith("#") or (not line.strip() and parts):
            continue  # Docker drops comments and, with a warning, empty lines within an instruction
        first = first if parts else number
        text = line.rstrip(" \t")
        goes_on = text.endswith(escape) and not text.endswith(escape * 2)
        parts.append(text.removesuffix(escape) if goes_on else text)
        if goes_on:
            continue
        step = _instruction(first, "".join(parts).strip())
        parts = []
        if step is not None:
            yield _with_heredocs(step, numbered)
    step = _instruction(first, "".join(parts).strip())
    if step is not None:
        yield step


def _instruction(line: int, text: str) -> Instruction | None:
    name, rest = _halves(text)
    is_deferred = name.upper() == "ONBUILD"
    if is_deferred:
        name, rest = _halves(rest)
    if not name:
        return None
    flags = []
    while rest.startswith("--"):
        flag, rest = _halves(rest)
        flags.append(flag)
        if flag == "--":
            break
    return Instruction(line=line, name=name.upper(), flags=tuple(flags), text=rest, is_deferred=is_deferred)


def _halves(text: str) -> tuple[str, str]:
    """Split off the first word."""
    first, *rest = text.split(maxsplit=1) or [""]
    return first, rest[0] if rest else ""


def _with_heredocs(step: Instruction, lines: Iterator[tuple[int, str]]) -> Instruction:
    """Return the step with the heredoc bodies that its words announce, consumed from ``lines``."""
    if step.name not in _WITH_HEREDOCS or "<<" not in step.text or step.argv() is not None:
        return step
    bodies = []
    for word in step.words():
        match = _HEREDOC.fullmatch(word)
        if match is None:
            continue
        end, body = re.sub(r"[\"'\\]", "", match[2]), list[str]()
        for _, line in lines:
            if (line.lstrip("\t") if match[1] else line) == end:
                break
            body.append(line)
        bodies.append("\n".join(body))
    return replace(step, heredocs=tuple(bodies))
