"""``enclavectl kernel``: boot files for enclaves where nitro-cli's blobs are not at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import NewFolder, Output, OutputFormat
from enclavectl.image.kernel import find_compiler, find_kernel, prepare_kernel

KERNEL_SCHEMA = "enclavectl.kernel/1"

Release = Annotated[
    str | None,
    typer.Option("--release", metavar="RELEASE", help="Which installed kernel; default: the only one."),
]
KernelRoot = Annotated[
    Path,
    typer.Option("--root", metavar="DIR", help="Where the kernel is installed, or its package is unpacked."),
]


def prepare(
    to: NewFolder,
    release: Release = None,
    root: KernelRoot = Path("/"),
    output: Output = OutputFormat.TEXT,
) -> None:
    """Copy a kernel and its modules, and compile an init.

    Takes the modules that an enclave needs; the result is for enclavectl build --blobs. Any kernel from 6.8
    on that has the nsm driver will do, such as Debian's 6.12 cloud kernel. Install its package, or unpack it
    with dpkg -x.

    Examples:
      enclavectl kernel prepare --to kernel              of the installed kernel
      enclavectl kernel prepare --root tree --to kernel  of an unpacked package
      enclavectl build --blobs kernel                    with the result
    """
    screen = screen_for(output)
    source = find_kernel(root, release)
    screen.step(f"preparing kernel {source.release}")
    files = prepare_kernel(source, to, compiler=find_compiler(os.environ.get("PATH")))
    if screen.as_json:
        value = {"schema": KERNEL_SCHEMA, "release": source.release, "folder": str(to)}
        screen.result({**value, "files": [str(path) for path in files]})
    else:
        screen.facts((str(path), f"{path.stat().st_size:,} bytes") for path in files)
