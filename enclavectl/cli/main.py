"""The entry point: the setup of the process before anything else is imported."""

from __future__ import annotations

import gc
import io
import os
import sys

# Most objects of a command belong to modules, which stay: diagnose has 60,000. Python's default of 700 would
# scan them 30 times, and a scan of half of them takes 10 ms.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000
# The exit code of enclavectl.errors.Interrupted, which is not loaded yet where this is used.
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with the code that docs/operations.md lists."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    _open_standard_streams()
    # Set the threshold before the first import, whose objects would be scanned most often.
    try:
        from enclavectl.cli.boundary import run  # noqa: PLC0415 - see above
    except KeyboardInterrupt:  # Ctrl-C while it loads, which takes 100 ms and more on a busy machine
        sys.stderr.write("enclavectl: interrupted\n")
        sys.exit(_INTERRUPTED)

    status = run(sys.argv[1:])
    gc.freeze()  # skip the last collection: the process ends anyway
    sys.exit(status)


def _open_standard_streams() -> None:
    """Open the descriptors 0, 1 and 2 if they are closed, and make the streams encode any character.

    A caller may have closed them. The next files that we open would then get their numbers, and we and our
    child processes would write output into these files.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, "w" if number else "r"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
