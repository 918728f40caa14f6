"""The error boundary: only here errors become text and exit codes."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from enclavectl.cli.app import build_app, command_path
from enclavectl.cli.closed_output import (
    check_output,
    discard_output,
    discard_unwritable,
    is_output_closed,
    says_closed,
    says_full,
)
from enclavectl.cli.foreign_words import argument_meant, option_meant_by
from enclavectl.cli.signals import ending_as_interrupted
from enclavectl.errors import Bug, EnclavectlError, HostError, Interrupted, OutputClosed, UsageError

_VALUE_WITH_UNIT = re.compile(r"for '(--[a-z]+)'.*: '([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)' is not a valid")
_WRONG_VALUE = re.compile(
    r"Invalid value for '([^']+)'(?: / '[^']+')*: (.*?) is not "
    r"(?:a valid (int|float)(?: range)?|one of (.*)|in the range (\S+))\.",
    re.DOTALL,
)
_MISSING = re.compile(r"Missing (?:argument|option) '([^']+)'\.")
_EXTRA = re.compile(r"Got unexpected extra argument\S* \((.*)\)", re.DOTALL)
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
_OUTPUT_FILE = re.compile(r"for '--output'.*: '([^']+\.[A-Za-z]+)' is not one of")
_SPACE_HINT = "is the disk full? df -h"


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. SIGTERM and a closed terminal end it like Ctrl-C."""
    try:
        with ending_as_interrupted():
            status = build_app()(list(arguments), prog_name="enclavectl", standalone_mode=False)
            sys.stdout.flush()
        # Typer turns Ctrl-C into this status by itself.
        code = status if isinstance(status, int) else 0
        if code == 0:
            check_output("the work is complete, and what it said is lost", hint=_SPACE_HINT)
        return _interrupted(arguments) if code == Interrupted.exit_code else code
    except EnclavectlError as error:
        return _report(error, arguments)
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted(arguments)
    except TyperException as exc:
        return _refuse(exc, arguments)
    except (BrokenPipeError, SystemExit) as exc:
        # Typer turns a broken pipe into SystemExit.
        if isinstance(exc, SystemExit) and not isinstance(exc.__context__, BrokenPipeError):
            raise
        return _broken_pipe(arguments)
    except Exception as exc:  # noqa: BLE001 - the boundary: what gets here is a bug, and is shown as one
        return _broken_pipe(arguments) if says_closed(exc) else _report(_full_disk(exc) or _bug(), arguments)


def _broken_pipe(arguments: Sequence[str]) -> int:
    if not is_output_closed():
        return _report(_bug(), arguments)  # a pipe or a connection of our own
    # In silence, as a program that SIGPIPE ends. A verdict may be lost with it, so this is no success.
    discard_output(sys.stdout)
    return OutputClosed.exit_code


def _refuse(error: TyperException, arguments: Sequence[str]) -> int:
    """Report an error of the command line; for a group without a command, print its help page."""
    message = error.format_message()
    if message.startswith("Usage:"):
        try:
            sys.stderr.write(f"{message}\n")
        except OSError:  # nobody reads it; the exit code still says that it is no success
            discard_unwritable()
        return UsageError.exit_code
    # Typer has no public type for errors with a context; where an option lacks its value there is none.
    path = getattr(getattr(error, "ctx", None), "command_path", None) or command_path(arguments)
    option = getattr(error, "option_name", None)
    meant = option_meant_by(option, path.split()[1:]) if option else _unit_meant(message)
    if meant is not None:
        # Without Typer's guesses, which go by the letters: --docker-uri is no --dockerfile.
        message = getattr(error, "message", message) if option else _in_our_words(message)
        return _report(UsageError(message, hint=f"write {meant}"), arguments)
    extra = argument_meant(path.split()[1:]) if message.startswith("Got unexpected extra") else None
    hint = _dashed_file(arguments) or extra or f"{path} --help lists the options"
    return _report(UsageError(_in_our_words(message), hint=hint), arguments)


def _in_our_words(message: str) -> str:
    """Return Typer's message about a value in the form of our own: what was expected, and what was found."""
    if (missing := _MISSING.match(message)) is not None:
        return f"expected {missing[1]}, found none"
    if (extra := _EXTRA.fullmatch(message)) is not None:
        return f"expected no further argument, found {extra[1]}"
    if (found := _WRONG_VALUE.fullmatch(message)) is None:
        return message
    option, value, kind, words, bounds = found.groups()
    if words is not None:
        expected = f"one of {words.replace(chr(39), '')}"
    elif bounds is not None:
        # Only the value tells the kind here: that of an option for whole numbers has no point.
        number = "a whole number" if value.lstrip("-").isdecimal() else "a number"
        expected = f"{number} {_bounds_in_words(bounds)}"
    else:
        expected = "a whole number" if kind == "int" else "a number"
    return f"{option}: expected {expected}, found {value}"


def _bounds_in_words(bounds: str) -> str:
    """Return Typer's form of a range, such as ``0<=x<=3600`` or ``x>=1``, in words."""
    low, between, high = bounds.partition("<=x<=")
    if between:
        return f"from {low} to {high}"
    if bounds.startswith("x>="):
        return f"of at least {bounds[3:]}"
    return f"of at most {bounds[3:]}" if bounds.startswith("x<=") else bounds


def _unit_meant(message: str) -> str | None:
    """Return how to write a value with a unit, or a file's name, that an option does not take."""
    found = _VALUE_WITH_UNIT.search(message)
    if found is not None and found[1] == "--memory" and found[3][0].lower() in "kmgt":
        mib = float(found[2]) * 1024.0 ** ("kmgt".index(found[3][0].lower()) - 1)
        return f"MiB without a unit, such as --memory {max(round(mib), 1)}"
    if found is not None and found[1] == "--timeout" and found[3] in _SECONDS:
        return f"seconds without a unit, such as --timeout {round(float(found[2]) * _SECONDS[found[3]])}"
    if (file := _OUTPUT_FILE.search(message)) is not None:
        return f"--output json > {file[1]}"
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


def _interrupted(arguments: Sequence[str]) -> int:
    # Ctrl-C is the usual end of a listener, and its output lines must be answers only.
    return _report(Interrupted("interrupted"), () if arguments[:1] == ["listen"] else arguments)


def _full_disk(exc: Exception) -> HostError | None:
    if not isinstance(exc, OSError) or not says_full(exc):
        return None
    what = exc.filename or "the output"
    return HostError(f"{what}: cannot be written ({exc.strerror})", hint=_SPACE_HINT)


def _bug() -> Bug:
    traceback.print_exc()
    return Bug("this is a bug in enclavectl", hint="report the lines above")


def _report(error: EnclavectlError, arguments: Sequence[str]) -> int:
    # Imported only for an error: most command lines report none.
    from enclavectl.cli.screen import Screen, wants_json  # noqa: PLC0415 - see above

    try:
        Screen(as_json=wants_json(arguments) and not error.after_answer).error(error)
    except OSError:  # the output is closed; the exit code still reports the error
        discard_unwritable()
        Screen(as_json=False).error(error)
    discard_unwritable()
    return error.exit_code
