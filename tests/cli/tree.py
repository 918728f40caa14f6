"""Every command of the tree, as the parser has it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from enclavectl.cli.app import COMMANDS, GroupRow, Row, build_app

ROWS = [row for rows in COMMANDS.values() for row in rows]
NAMES = [row.name for row in ROWS]
# What ends a command's own words on a shell's line.
_SHELL = re.compile(r"\s(?:[<>|&;]|&&)(?:\s|$)")


def all_rows() -> Iterator[tuple[tuple[str, ...], Row]]:
    """Yield each command with the words that a user types."""
    yield from _below((), ROWS)


def _below(words: tuple[str, ...], rows: Sequence[Row | GroupRow]) -> Iterator[tuple[tuple[str, ...], Row]]:
    for row in rows:
        if isinstance(row, GroupRow):
            yield from _below((*words, row.name), row.commands)
        else:
            yield (*words, row.name), row
            yield from _below((*words, row.name), row.groups)


def parsed(words: list[str]) -> Any:
    """Return the context that the real parser makes of a command line; nothing is run.

    Raises:
        Exception: as the command line would.
    """
    context: Any = build_app().make_context("enclavectl", list(words))
    while rest := [*context._protected_args, *context.args]:
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "commands") and not hasattr(context.command, "commands"):
            break
    return context


def words_of(line: str) -> list[str]:
    """Return the words of an example after ``enclavectl``, without what is for the shell."""
    program, *words = shlex.split(_SHELL.split(line)[0])
    assert program == "enclavectl", line
    return words
