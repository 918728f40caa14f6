"""An enclave image whose init is ``echo.c``."""

from __future__ import annotations

import os
import subprocess
from io import BytesIO
from pathlib import Path

from enclavectl.eif.build import ImageSpec, build_image
from enclavectl.eif.file_range import bytes_range
from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.ramdisks import BootFile, Mode, boot_entries, write_ramdisk
from enclavectl.image.kernel import CMDLINE, find_compiler, find_kernel, prepare_kernel
from tests.eif import samples


def build_echo_image(kernel_root: Path, folder: Path) -> Path:
    """Build it in ``folder``, with the kernel that is unpacked in ``kernel_root``."""
    compiler = find_compiler(os.environ.get("PATH"))
    prepare_kernel(find_kernel(kernel_root, None), folder / "blobs", compiler=compiler)
    source = Path(__file__).with_name("echo.c")
    subprocess.run([compiler, "-static", "-Os", "-s", "-o", folder / "echo", source], check=True, timeout=120)
    files = [BootFile(name="init", data=bytes_range((folder / "echo").read_bytes()))]
    files += [
        BootFile(name=path.name, data=bytes_range(path.read_bytes()))
        for path in (folder / "blobs" / "modules").iterdir()
    ]
    ramdisk = BytesIO()
    write_ramdisk(ramdisk, boot_entries(files), Mode.REPRODUCIBLE)
    spec = ImageSpec(
        kernel=bytes_range((folder / "blobs" / "bzImage").read_bytes()),
        cmdline=CMDLINE,
        ramdisks=(bytes_range(ramdisk.getvalue()),),
        metadata=samples.METADATA,
        arch=Arch.X86_64,
    )
    build_image(spec, folder / "echo.eif")
    return folder / "echo.eif"
