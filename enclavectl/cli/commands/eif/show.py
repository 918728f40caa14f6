"""``enclavectl eif show``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.image_files import EXIT_UNSOUND, ImageFiles, draw_findings, progress
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.per_file import Answer, answer_each
from enclavectl.eif.describe import describe
from enclavectl.eif.examine import examine
from enclavectl.eif.findings import Severity, raise_first_error
from enclavectl.eif.opening import open_image
from enclavectl.eif.scan import parse_layout

SHOW_FILES_SCHEMA = "enclavectl.eif-show-files/1"

Lenient = Annotated[
    bool,
    typer.Option("--lenient", help="Report every defect in place of stopping at the first; exit code 2."),
]
ForceFlags = Annotated[
    bool,
    typer.Option(
        "--force-flags",
        help="Give PCRs although unknown header flags may take part in them; then they are a guess.",
    ),
]


def show(
    files: ImageFiles,
    lenient: Lenient = False,
    force_flags: ForceFlags = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Describe images: PCRs, signature, metadata, sections.

    The JSON has the keys and values of nitro-cli describe-eif, and ours under "enclavectl". For several files
    it has a list of such objects.

    Examples:
      enclavectl eif show app.eif                  one image
      enclavectl eif show --lenient broken.eif     all that is wrong with one
      enclavectl eif show --output json app.eif    as nitro-cli describe-eif, and more
    """
    screen = screen_for(output)

    def answer(file: Path) -> Answer:
        with open_image(file) as image, progress(screen, "measuring", file) as on_bytes:
            if not lenient:
                parse_layout(image)  # reports a broken layout before gigabytes are read
            examination = examine(image, now=datetime.now(UTC), force_flags=force_flags, on_bytes=on_bytes)
            if not lenient:
                raise_first_error(examination.findings)
            value = describe(examination)

        def draw() -> None:
            screen.facts(_flat(value))
            draw_findings(screen, examination.findings)

        is_broken = any(finding.severity is Severity.ERROR for finding in examination.findings)
        return Answer(value=value, draw=draw, exit_code=EXIT_UNSOUND if is_broken else 0)

    answer_each(screen, files, SHOW_FILES_SCHEMA, answer)


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested values as lines for people; lists and Docker's description of an image are shortened."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in {"DockerInfo", "findings"}:
                continue
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            words = " ".join(f"{key}={one}" for key, one in item.items()) if isinstance(item, dict) else item
            yield f"{prefix}[{index}]", str(words)
    elif value is not None:
        yield prefix, str(value)
