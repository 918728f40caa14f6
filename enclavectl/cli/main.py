"""The entry point and the one place where errors become text and exit codes."""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from enclavectl.errors import Bug, EnclavectlError, HostError, Interrupted, UsageError

# Of a disk that takes no more: full, over a quota, over the longest file that we may write.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Most of what a command makes are modules, which stay. Python's 700 would have them looked at 30 times.
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main() -> None:
    """Run the command line and exit with the code that docs/operations.md lists."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    _open_standard_streams()
    status = run(sys.argv[1:])
    gc.freeze()  # all goes with the process: a last collection would find nothing to do
    sys.exit(status)


def _open_standard_streams() -> None:
    """Numbers 0, 1 and 2 are open, if only to nowhere, and no character breaks a stream.

    A caller may have closed them; the next files we open would then be taken for them, by us and by the
    processes that we start.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, "w" if number else "r"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    import typer
    from typer.exceptions import TyperException

    from enclavectl.cli.app import build_app

    try:
        command = typer.main.get_command(build_app(arguments))
        status = command(list(arguments), prog_name="enclavectl", standalone_mode=False)
        sys.stdout.flush()
        # Typer turns Ctrl-C into this status by itself.
        code = status if isinstance(status, int) else 0
        return _interrupted(arguments) if code == Interrupted.exit_code else code
    except EnclavectlError as error:
        return _report(error, arguments)
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted(arguments)
    except TyperException as exc:
        return _refuse(exc.format_message(), arguments)
    except (BrokenPipeError, SystemExit) as exc:
        # Typer makes an exit of a pipe that broke.
        if isinstance(exc, SystemExit) and not isinstance(exc.__context__, BrokenPipeError):
            raise
        # Whoever read our output has seen enough.
        _write_nowhere()
        return 0
    except Exception as exc:  # noqa: BLE001 - the boundary: what gets here is a bug, and is shown as one
        return _report(_full_disk(exc) or _bug(), arguments)


def _refuse(message: str, arguments: Sequence[str]) -> int:
    """Tell what is wrong with the command line; a group without a command gets its help page."""
    if message.startswith("Usage:"):
        sys.stderr.write(f"{message}\n")
        return UsageError.exit_code
    return _report(UsageError(message, hint="enclavectl COMMAND --help lists the options"), arguments)


def _interrupted(arguments: Sequence[str]) -> int:
    # Ctrl-C is how a listener ends; on its lines are answers only.
    return _report(Interrupted("interrupted"), () if arguments[:1] == ["listen"] else arguments)


def _full_disk(exc: Exception) -> HostError | None:
    if not isinstance(exc, OSError) or exc.errno not in _FULL:
        return None
    what = exc.filename or "the output"
    return HostError(f"{what}: cannot be written ({exc.strerror})", hint="is the disk full? df -h")


def _bug() -> Bug:
    import traceback

    traceback.print_exc()
    return Bug("this is a bug in enclavectl", hint="report the lines above")


def _write_nowhere() -> None:
    """What is left to be written does not make the interpreter complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: EnclavectlError, arguments: Sequence[str]) -> int:
    from enclavectl.cli.screen import Screen, wants_json

    try:
        Screen(as_json=wants_json(arguments) and not error.after_answer).error(error)
    except OSError:  # nobody takes our output; the exit code says it all the same
        _write_nowhere()
        with suppress(OSError):
            Screen(as_json=False).error(error)
    try:
        sys.stdout.flush()
    except OSError:
        _write_nowhere()
    return error.exit_code
