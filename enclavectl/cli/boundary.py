"""The error boundary: only here errors become text and exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from enclavectl.cli.app import build_app
from enclavectl.cli.closed_output import (
    check_output,
    discard_output,
    discard_unwritable,
    is_output_closed,
    says_closed,
    says_full,
)
from enclavectl.cli.signals import ending_as_interrupted
from enclavectl.errors import Bug, EnclavectlError, HostError, Interrupted, OutputClosed, UsageError

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
    # Imported only for an error, as below.
    from enclavectl.cli.wrong_words import usage_error  # noqa: PLC0415 - see above

    return _report(usage_error(error, arguments), arguments)


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
