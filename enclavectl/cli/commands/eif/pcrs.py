"""``enclavectl eif pcrs``."""

from __future__ import annotations

from pathlib import Path

from enclavectl.cli.image_files import ImageFiles, draw_findings, progress
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.per_file import Answer, answer_each
from enclavectl.eif.examine import read_verified
from enclavectl.eif.opening import open_image

PCRS_FILES_SCHEMA = "enclavectl.pcrs-files/1"


def pcrs(files: ImageFiles, output: Output = OutputFormat.TEXT) -> None:
    """Compute the PCRs that an enclave with the image attests.

    PCR0 measures the whole image, PCR1 kernel and boot ramdisk, PCR2 the application, PCR8 the certificate of
    the signature.

    Examples:
      enclavectl eif pcrs app.eif              of one image
      enclavectl eif pcrs old.eif new.eif      of several
    """
    screen = screen_for(output)

    def answer(file: Path) -> Answer:
        with open_image(file) as image, progress(screen, "measuring", file) as on_bytes:
            measured = read_verified(image, on_bytes=on_bytes)
        draw_findings(screen, measured.warnings)  # in JSON mode as well: the object has only the registers
        registers = measured.measurements.registers()
        return Answer(value=measured.measurements.to_json(), draw=lambda: screen.facts(registers.items()))

    answer_each(screen, files, PCRS_FILES_SCHEMA, answer)
