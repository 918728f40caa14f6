"""As much of clap 4 as nitro-cli shows: options, what they require and exclude, its errors, its help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_WIDTH = 100
_TRY = "For more information, try '--help'."


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A long option. ``unless`` are those that make it optional; None: it is optional anyway."""

    name: str
    help: str
    value: str | None = None
    many: bool = False
    unless: tuple[str, ...] | None = None
    conflicts: tuple[str, ...] = ()
    requires: str | None = None

    def __str__(self) -> str:
        value = f" <{self.value}>" if self.value else ""
        return f"--{self.name}{value}{'...' if self.many else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A subcommand and its options, in the order of the help."""

    name: str
    about: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The program. ``usage`` errors and help texts come as ``Said``."""

    title: str
    about: str
    version: str
    commands: tuple[Command, ...]


class Said(Exception):
    """clap speaks and ends the program: help and version on standard output, errors on standard error."""

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


def parse(app: App, arguments: Sequence[str]) -> tuple[str, Matches]:
    """The subcommand and its options.

    Raises:
        Said: help or the version was asked for, or the arguments are wrong (status 2).
    """
    if not arguments:
        raise Said(help_of(app), 2)
    first, rest = arguments[0], list(arguments[1:])
    if first in {"-h", "--help"} or (first == "help" and not rest):
        raise Said(help_of(app), 0)
    if first in {"-V", "--version"}:
        raise Said(f"{app.title} {app.version}\n", 0)
    commands = {command.name: command for command in app.commands}
    if first == "help" and rest[0] in commands:
        raise Said(command_help(commands[rest[0]]), 0)
    if first.startswith("-"):
        raise _error(f"unexpected argument '{first}' found", "[COMMAND]")
    if first not in commands:
        raise _error(f"unrecognized subcommand '{first}'", "[COMMAND]", _similar_commands(first, commands))
    return first, _Parser(commands[first]).parse(rest)


class _Parser:
    def __init__(self, command: Command) -> None:
        self._command = command
        self._options = {option.name: option for option in command.options}
        self._found = Matches()

    def parse(self, arguments: list[str]) -> Matches:
        while arguments:
            argument = arguments.pop(0)
            if argument in {"-h", "--help"}:
                raise Said(command_help(self._command), 0)
            name, has_value, value = argument[2:].partition("=")
            option = self._options.get(name) if argument.startswith("--") else None
            if option is None:
                raise self._unexpected(argument)
            if name in self._found:
                usage = self._usage([*self._found])
                raise _error(f"the argument '{option}' cannot be used multiple times", usage)
            self._found[name] = self._values(option, value if has_value else None, arguments)
        self._check()
        return self._found

    def _values(self, option: Option, attached: str | None, arguments: list[str]) -> list[str]:
        if option.value is None:
            if attached is not None:
                problem = f"unexpected value '{attached}' for '{option}' found; no more were expected"
                raise _error(problem, self._usage([option.name]))
            return []
        values = [] if attached is None else [attached]
        while arguments and not arguments[0].startswith("-") and (option.many or not values):
            values.append(arguments.pop(0))
        if not values and arguments and arguments[0].partition("=")[0][2:] not in self._options:
            raise self._unexpected(arguments[0])
        if not values:
            raise _error(f"a value is required for '{option}' but none was supplied", None)
        return values

    def _check(self) -> None:
        given = [self._options[name] for name in self._found]
        for option in given:
            for other in given:
                if option is not other and (other.name in option.conflicts or option.name in other.conflicts):
                    problem = f"the argument '{option}' cannot be used with '{other}'"
                    raise _error(problem, self._usage([option.name, *self._missing([option.name])]))
        missing = self._missing([*self._found])
        if missing:
            names = "".join(f"\n  {self._options[name]}" for name in missing)
            usage = self._usage([*self._found, *missing])
            raise _error(f"the following required arguments were not provided:{names}", usage)

    def _missing(self, given: Sequence[str]) -> list[str]:
        required = {self._options[name].requires for name in given}
        return [
            option.name
            for option in self._command.options
            if option.name not in given
            and (
                option.name in required
                or (option.unless is not None and not any(name in given for name in option.unless))
            )
        ]

    def _unexpected(self, argument: str) -> Said:
        tip, used = "", None
        if argument.startswith("--"):
            close = _similar(argument[2:], self._options)
            if close:
                tip = f"\n\n  tip: a similar argument exists: '--{close[-1]}'"
                used = close[-1:]
        usage = self._usage(used) if used else usage_of(self._command)
        return _error(f"unexpected argument '{argument}' found", usage, tip)

    def _usage(self, names: Sequence[str]) -> str:
        return " ".join([self._command.name, *(str(self._options[name]) for name in names)])


def _error(problem: str, usage: str | None, tip: str = "") -> Said:
    shown = "" if usage is None else f"Usage: nitro-cli {usage}\n\n"
    return Said(f"error: {problem}{tip}\n\n{shown}{_TRY}\n", 2)


def _similar_commands(word: str, known: Iterable[str]) -> str:
    close = _similar(word, known)
    if not close:
        return ""
    names = ", ".join(f"'{name}'" for name in close)
    what = "a similar subcommand exists" if len(close) == 1 else "some similar subcommands exist"
    return f"\n\n  tip: {what}: {names}"


def _similar(word: str, known: Iterable[str]) -> list[str]:
    """What the user may have meant, the most likely last: clap's threshold, and its measure."""
    rated = sorted((_jaro(word, name), name) for name in known)
    return [name for rate, name in rated if rate > 0.7]


def _jaro(one: str, other: str) -> float:
    reach = max(max(len(one), len(other)) // 2 - 1, 0)
    taken: set[int] = set()
    matched = []
    for index, letter in enumerate(one):
        for place in range(max(index - reach, 0), min(index + reach + 1, len(other))):
            if place not in taken and other[place] == letter:
                taken.add(place)
                matched.append(letter)
                break
    if not matched:
        return 0.0
    swapped = sum(a != other[place] for a, place in zip(matched, sorted(taken), strict=True)) / 2
    count = len(matched)
    return (count / len(one) + count / len(other) + (count - swapped) / count) / 3


def usage_of(command: Command) -> str:
    """The usage line of a subcommand, as its help has it."""
    required = [str(option) for option in command.options if option.unless == ()]
    has_optional = len(required) < len(command.options)
    return " ".join([command.name, *(["[OPTIONS]"] if has_optional else []), *required])


def help_of(app: App) -> str:
    """The help of the program."""
    rows = [(command.name, command.about) for command in app.commands]
    rows.append(("help", "Print this message or the help of the given subcommand(s)"))
    width = max(len(name) for name, _ in rows)
    commands = "".join(f"  {name:{width}}  {about}\n" for name, about in rows)
    return (
        f"{app.about}\n\nUsage: nitro-cli [COMMAND]\n\nCommands:\n{commands}\n"
        "Options:\n  -h, --help     Print help\n  -V, --version  Print version\n"
    )


def command_help(command: Command) -> str:
    """The help of one subcommand."""
    rows = [(f"      {option}", option.help) for option in command.options]
    rows.append(("  -h, --help", "Print help"))
    return f"{command.about}\n\nUsage: nitro-cli {usage_of(command)}\n\nOptions:\n{''.join(_rows(rows))}"


def _rows(rows: list[tuple[str, str]]) -> Iterator[str]:
    column = max(len(name) for name, _ in rows) + 2
    taken = column - 6 + 6
    below = taken / _WIDTH > 0.4 and any(len(text) > _WIDTH - taken for _, text in rows)
    for name, text in rows:
        if below:
            yield f"{name}\n          {text}\n"
        else:
            yield f"{name:{column}}" + text.replace("\n", "\n" + " " * column) + "\n"
