"""The command line of nitro-cli as a table: options, which of them are required, which exclude each other.

Errors have clap's exit status (2) and its first words, which is what our product looks at; help is one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A subcommand. ``one_of``: of each group exactly one is given; ``together``: all of a group or none."""

    flags: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()
    many: frozenset[str] = frozenset()
    one_of: tuple[frozenset[str], ...] = ()
    together: tuple[frozenset[str], ...] = ()

    def takes(self) -> frozenset[str]:
        """Every option."""
        return self.flags | self.values | self.many


class Said(Exception):
    """clap speaks and ends the program: the version on standard output, errors on standard error."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class Matches(dict[str, list[str]]):
    """The options that were given, with their values."""

    def flag(self, name: str) -> bool:
        """Whether the option was given."""
        return name in self

    def one(self, name: str) -> str | None:
        """The option's value."""
        values = self.get(name)
        return values[0] if values else None


def parse(commands: dict[str, Command], version: str, arguments: Sequence[str]) -> tuple[str, Matches]:
    """The subcommand and its options.

    Raises:
        Said: the version was asked for, or the arguments are wrong (status 2).
    """
    if not arguments:
        raise Said("error: a subcommand is required\n", 2)
    name, rest = arguments[0], list(arguments[1:])
    if name in {"-V", "--version"}:
        raise Said(f"Nitro CLI {version}\n", 0)
    if name in {"-h", "--help", "help"} or "--help" in rest:
        raise Said("Usage: nitro-cli [COMMAND]\n", 0)
    if name not in commands:
        raise _error(f"unrecognized subcommand '{name}'")
    found = _options(commands[name], rest)
    _check(commands[name], found)
    return name, found


def _options(command: Command, arguments: list[str]) -> Matches:
    found = Matches()
    while arguments:
        argument = arguments.pop(0)
        name, has_value, value = argument[2:].partition("=")
        if (
            not argument.startswith("--")
            or name not in command.takes()
            or (has_value and name in command.flags)
        ):
            raise _error(f"unexpected argument '{argument}' found")
        if name in found:
            raise _error(f"the argument '--{name}' cannot be used multiple times")
        values = [value] if has_value else []
        is_greedy = name in command.many
        while name not in command.flags and arguments and (is_greedy or not values):
            if arguments[0].startswith("-"):
                break
            values.append(arguments.pop(0))
        if name not in command.flags and not values:
            raise _error(f"a value is required for '--{name}' but none was supplied")
        found[name] = values
    return found


def _check(command: Command, found: Matches) -> None:
    given = set(found)
    for group in command.one_of:
        if len(given & group) > 1:
            raise _error(
                f"the argument '--{min(given & group)}' cannot be used with '--{max(given & group)}'"
            )
        if not given & group:
            raise _error(f"the following required arguments were not provided: {' or '.join(sorted(group))}")
    for group in command.together:
        if given & group and not given >= group:
            raise _error(f"the following required arguments were not provided: {min(group - given)}")


def _error(problem: str) -> Said:
    return Said(f"error: {problem}\n\nFor more information, try '--help'.\n", 2)
