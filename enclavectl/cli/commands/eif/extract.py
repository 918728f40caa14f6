"""``enclavectl eif extract``."""

from __future__ import annotations

from enclavectl.cli.image_files import ImageFile
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import NewFolder, Output, OutputFormat
from enclavectl.eif.extract import extract_sections
from enclavectl.eif.opening import open_image
from enclavectl.errors import UsageError
from enclavectl.files import is_folder

EXTRACT_SCHEMA = "enclavectl.eif-extract/1"


def extract(file: ImageFile, folder: NewFolder, output: Output = OutputFormat.TEXT) -> None:
    """Write each section of an image to a file.

    The files are kernel, cmdline, metadata.json, ramdisk0.cpio and so on. Ramdisks stay archives: unpack one
    with cpio --extract --make-directories, and not as root.

    Examples:
      enclavectl eif extract app.eif --to parts   into a new folder
    """
    screen = screen_for(output)
    if not is_folder(folder.parent):
        raise UsageError(
            f"--to {folder}: expected a new folder in a folder that exists",
            hint="make that folder first, or name another one",
        )
    with open_image(file) as image:
        written = extract_sections(image, folder)
    if screen.as_json:
        files = [{"file": str(one.path), "kind": one.kind, "size": one.size} for one in written]
        screen.result({"schema": EXTRACT_SCHEMA, "files": files})
    else:
        screen.facts((str(one.path), f"{one.size:,} bytes") for one in written)
