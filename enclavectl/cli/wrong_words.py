"""Typer's errors about a command line, in the words of our own errors: what was expected, what was found."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from enclavectl.cli.app import command_path
from enclavectl.cli.foreign_words import argument_meant, names_from, option_meant_by
from enclavectl.errors import UsageError

# Typer has no class of its own for this one.
_EXTRA = "Got unexpected extra argument(s) "
# Between the value and what it is not, in each message of Typer about the value of a number or a choice.
_IS_NOT = " is not "
# Not of so many digits that a float of them is infinite.
_WITH_UNIT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([A-Za-z]+)", re.ASCII)
_FILE_NAME = re.compile(r".+\.[A-Za-z]+", re.ASCII | re.DOTALL)
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
_UNITS = "kmgt"


def usage_error(error: TyperException, arguments: Sequence[str]) -> UsageError:
    """Return the error to report in place of one of Typer's about the command line ``arguments``."""
    # Typer has no public type for errors with a context; where an option lacks its value there is none.
    path = getattr(getattr(error, "ctx", None), "command_path", None) or command_path(arguments)
    command = path.split()[1:]
    extra = None
    if isinstance(error, typer.BadParameter):
        message, meant = _about_value(error)
        if not error.message and (shows := names_from(command)) is not None:
            extra = f"{shows} shows the names"
    elif (option := getattr(error, "option_name", None)) is not None:
        meant = option_meant_by(option, command)
        # Typer's guesses go by the letters: --docker-uri is no --dockerfile.
        message = error.format_message() if meant is None else error.message
    elif error.message.startswith(_EXTRA):
        found = error.message.removeprefix(_EXTRA)[1:-1]
        message, meant = f"expected no further argument, found {found}", None
        extra = argument_meant(command)
    else:
        message, meant = error.format_message(), None
    if meant is not None:
        return UsageError(message, hint=f"write {meant}")
    return UsageError(message, hint=_dashed_file(arguments) or extra or f"{path} --help lists the options")


def _about_value(error: typer.BadParameter) -> tuple[str, str | None]:
    """Return the message about an option's or argument's value, and what to write in its place, if known."""
    if error.param is None or error.ctx is None:
        return error.format_message(), None
    # All spellings of an option, of which the first is the long one; quoted.
    name = error.param.get_error_hint(error.ctx).partition(" / ")[0].strip("'")
    if not error.message:  # the class for what is missing has no public name, and no message
        return f"expected {name}, found none", None
    expected = _expected(error.param.type)
    if expected is None or _IS_NOT not in error.message:
        return f"{name}: {error.message}", None  # of a check of ours
    # The value is nowhere else; it may have these words, and what it is not has none of its characters.
    value = error.message.rpartition(_IS_NOT)[0]
    return f"{name}: expected {expected}, found {value}", _value_meant(name, value.strip("'"))


def _expected(kind: object) -> str | None:
    """Return what one of Typer's types of values takes; None for a type whose values are never wrong."""
    if (choices := getattr(kind, "choices", None)) is not None:
        return f"one of {', '.join(map(str, choices))}"
    name = str(getattr(kind, "name", ""))
    if not name.startswith(("int", "float")):
        return None
    number = "a whole number" if name.startswith("int") else "a number"
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if low is None:
        return number if high is None else f"{number} of at most {high}"
    return f"{number} of at least {low}" if high is None else f"{number} from {low} to {high}"


def _value_meant(option: str, value: str) -> str | None:
    """Return how to write a value with a unit, or a file's name, that an option does not take."""
    if option == "--output" and _FILE_NAME.fullmatch(value) is not None:
        return f"--output json > {value}"
    if (found := _WITH_UNIT.fullmatch(value)) is None:
        return None
    number, unit = float(found[1]), found[2]
    if option == "--memory" and unit[0].lower() in _UNITS:
        mib = number * 1024.0 ** (_UNITS.index(unit[0].lower()) - 1)
        return f"MiB without a unit, such as --memory {max(round(mib), 1)}"
    if option == "--timeout" and unit in _SECONDS:
        return f"seconds without a unit, such as --timeout {round(number * _SECONDS[unit])}"
    return None


def _dashed_file(arguments: Sequence[str]) -> str | None:
    """Return the safe spelling of a file name that was taken for an option, if there is one."""
    for argument in arguments:
        if argument == "--":
            break
        is_name = argument.startswith("-") and not argument.startswith("--") and "." in argument
        if is_name or (argument[:1] == "-" and argument != "-" and os.path.lexists(argument)):
            return f"for a file of that name, write ./{argument}"
    return None
