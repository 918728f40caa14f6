"""The entry point and the one place where errors become text and exit codes."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence

from enclavectl.errors import Bug, EnclavectlError, UsageError

EXIT_INTERRUPTED = 130
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
        return _interrupted() if status == EXIT_INTERRUPTED else status if isinstance(status, int) else 0
    except EnclavectlError as error:
        return _report(error, arguments)
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted()
    except TyperException as exc:
        return _refuse(exc.format_message(), arguments)
    except BrokenPipeError:
        # Whoever read our output has seen enough; do not let the interpreter complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # noqa: BLE001 - the boundary: what gets here is a bug, and is shown as one
        import traceback

        traceback.print_exc()
        return _report(Bug("this is a bug in enclavectl", hint="report the lines above"), arguments)


def _refuse(message: str, arguments: Sequence[str]) -> int:
    """Tell what is wrong with the command line; a group without a command gets its help page."""
    if message.startswith("Usage:"):
        sys.stderr.write(f"{message}\n")
        return UsageError.exit_code
    return _report(UsageError(message, hint="enclavectl COMMAND --help lists the options"), arguments)


def _interrupted() -> int:
    sys.stderr.write("enclavectl: interrupted\n")
    return EXIT_INTERRUPTED


def _report(error: EnclavectlError, arguments: Sequence[str]) -> int:
    from enclavectl.cli.screen import Screen, wants_json

    Screen(as_json=wants_json(arguments)).error(error)
    return error.exit_code
