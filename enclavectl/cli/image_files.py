"""Image files on the command line: arguments, progress on large ones, findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.screen import Screen
from enclavectl.eif.findings import Finding
from enclavectl.eif.measure import OnBytes

# Bytes. A smaller file is measured before a person could read a progress line.
_PROGRESS_FROM = 64 << 20

# The exit code for an image that breaks a rule, as for any unusable input.
EXIT_UNSOUND = 2

ImageFile = Annotated[Path, typer.Argument(metavar="FILE", help="An enclave image file (EIF).")]
ImageFiles = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Enclave image files (EIF).")]


@contextmanager
def progress(screen: Screen, what: str, path: Path) -> Iterator[OnBytes]:
    """Count bytes on the screen's status line if the file is large."""
    try:
        total = path.stat().st_size
    except OSError:
        total = 0  # opening it reports what is wrong
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        if total >= _PROGRESS_FROM:
            screen.count(f"{what} {path.name}", min(done, total) >> 20, total >> 20, "MiB")

    try:
        yield on_bytes
    finally:
        screen.end_count()


def draw_findings(screen: Screen, findings: Sequence[Finding]) -> None:
    """Write each finding as a note, with its place in the file."""
    for finding in findings:
        place = "" if finding.offset is None else f" (at byte {finding.offset})"
        hint = "" if finding.hint is None else f"; try: {finding.hint}"
        screen.note(f"{finding.severity}: {finding.code}: {finding.message}{place}{hint}")
