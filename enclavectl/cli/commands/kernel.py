"""``enclavectl kernel``: boot files for enclaves where nitro-cli's blobs are not at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.cli.signals import ending_as_interrupted

KERNEL_SCHEMA = "enclavectl.kernel/1"

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Make a kernel, modules and an init for enclaves."
)


@app.command()
@ending_as_interrupted()
def prepare(
    to: Annotated[Path, typer.Option("--to", help="A folder that does not exist yet.")],
    release: Annotated[
        str | None,
        typer.Option("--release", help="Which installed kernel; default: the only one.", show_default=False),
    ] = None,
    root: Annotated[
        Path, typer.Option("--root", help="Where the kernel is installed, or its package is unpacked.")
    ] = Path("/"),
    output: Output = OutputFormat.TEXT,
) -> None:
    """Make boot files from a distribution's kernel, for: enclavectl build --blobs FOLDER.

    Copies the kernel and the modules that an enclave needs, and compiles a small init. Any kernel from 6.8 on
    that has the nsm driver will do, such as Debian's 6.12 cloud kernel.

    Example: dpkg -x linux-image-VERSION.deb tree && enclavectl kernel prepare --root tree --to kernel
    """
    from enclavectl.image.kernel import find_compiler, find_kernel, prepare_kernel

    screen = Screen(as_json=output is OutputFormat.JSON)
    source = find_kernel(root, release)
    screen.step(f"preparing kernel {source.release}")
    files = prepare_kernel(source, to, compiler=find_compiler(os.environ.get("PATH")))
    if screen.as_json:
        value = {"schema": KERNEL_SCHEMA, "release": source.release, "folder": str(to)}
        screen.result({**value, "files": [str(path) for path in files]})
    else:
        screen.facts((str(path), f"{path.stat().st_size:,} bytes") for path in files)
