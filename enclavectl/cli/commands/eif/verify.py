"""``enclavectl eif verify``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from enclavectl.cli.image_files import EXIT_UNSOUND, ImageFiles, draw_findings, progress
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.per_file import Answer, answer_each
from enclavectl.cli.screen import Screen
from enclavectl.eif.examine import examine
from enclavectl.eif.opening import open_image

VERIFY_SCHEMA = "enclavectl.eif-verify/1"
VERIFY_FILES_SCHEMA = "enclavectl.eif-verify-files/1"


def verify(files: ImageFiles, output: Output = OutputFormat.TEXT) -> None:
    """Check every rule that an image can break.

    Exit code 0 only if all images are sound in every respect, else 2. A valid signature says that the holder
    of the certificate signed; PCR8 says whose certificate it is.

    Examples:
      enclavectl eif verify app.eif                all that is wrong with one image
      enclavectl eif verify --output json *.eif    many, for programs
    """
    screen = screen_for(output)
    answer_each(screen, files, VERIFY_FILES_SCHEMA, lambda file: _verdict(screen, file))


def _verdict(screen: Screen, file: Path) -> Answer:
    with open_image(file) as image, progress(screen, "verifying", file) as on_bytes:
        examination = examine(image, now=datetime.now(UTC), archives=True, on_bytes=on_bytes)
    registers = examination.measurements.registers() if examination.measurements else {}

    def draw() -> None:
        signed = "signed" if examination.is_signed else "not signed"
        screen.facts([(str(file), f"{'sound' if examination.sound else 'NOT SOUND'}, {signed}")])
        screen.facts(registers.items())
        draw_findings(screen, examination.findings)

    value = {
        "schema": VERIFY_SCHEMA,
        "file": str(file),
        "sound": examination.sound,
        "signed": examination.is_signed,
        "pcrs": registers,
        "findings": [finding.to_json() for finding in examination.findings],
    }
    return Answer(value=value, draw=draw, exit_code=0 if examination.sound else EXIT_UNSOUND)
