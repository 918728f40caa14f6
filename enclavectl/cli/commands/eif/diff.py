"""``enclavectl eif diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.eif.compare.diff import compare_images
from enclavectl.eif.examine import read_sound

ImageBefore = Annotated[Path, typer.Argument(metavar="OLD", help="The image as it was.")]
ImageAfter = Annotated[Path, typer.Argument(metavar="NEW", help="The image as it is.")]


def diff(before: ImageBefore, after: ImageAfter, output: Output = OutputFormat.TEXT) -> None:
    """Say what differs between two images, and why.

    Names the files, settings and boot files that changed, the PCRs which that moved, and the likely cause.

    Examples:
      enclavectl eif diff old.eif new.eif    why the PCRs differ
    """
    screen = screen_for(output)
    screen.step("comparing")
    with read_sound(before) as old, read_sound(after) as new:
        found = compare_images(old, new)
    if screen.as_json:
        screen.result(found.to_json())
        return
    screen.facts([("cause", found.cause), ("PCRs changed", ", ".join(found.pcrs_changed) or "none")])
    if found.changes:
        rows = [
            (one.where, one.what.value, one.before or "", one.after or one.note or "")
            for one in found.changes
        ]
        screen.table(("WHERE", "WHAT", "BEFORE", "AFTER"), rows)
