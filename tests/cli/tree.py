"""Every command of the tree, as the parser has it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from enclavectl.cli.app import COMMANDS, GroupRow, Row, build_app

# What ends a command's own words on a shell's line.
_SHELL = re.compile(r"\s(?:[<>|&;]|&&)(?:\s|$)")


def all_rows() -> Iterator[tuple[tuple[str, ...], Row]]:
    """Yield each command with the words that a user types."""
    for row in COMMANDS:
        if isinstance(row, GroupRow):
            for one in row.commands:
                yield (row.name, one.name), one
        else:
            yield (row.name,), row
            for group in row.groups:
                for one in group.commands:
                    yield (row.name, group.name, one.name), one


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
