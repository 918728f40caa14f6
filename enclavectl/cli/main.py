"""The entry point: what must be true of the process before anything else is imported."""

from __future__ import annotations

import gc
import io
import os
import sys

# Most of what a command makes are modules, which stay. Python's 700 would have them looked at 30 times.
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main() -> None:
    """Run the command line and exit with the code that docs/operations.md lists."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    _open_standard_streams()
    # The first modules that an import makes are looked at most often: the threshold goes before them.
    from enclavectl.cli.boundary import run  # noqa: PLC0415 - see above

    status = run(sys.argv[1:])
    gc.freeze()  # all goes with the process: a last collection would find nothing to do
    sys.exit(status)


def _open_standard_streams() -> None:
    """Open numbers 0, 1 and 2, if only to nowhere, and let no character break a stream.

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
