"""The kernel, the init and the modules that an image boots with: nitro-cli's or a prepared set."""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from enclavectl.eif.file_range import FileRange, whole_file
from enclavectl.eif.format import MAX_CMDLINE, Arch, kernel_arch
from enclavectl.eif.ramdisk.ramdisks import BootFile
from enclavectl.errors import HostError
from enclavectl.files import is_regular, open_regular, read_bounded

# The folder of the package aws-nitro-enclaves-cli-devel; NITRO_CLI_BLOBS names another.
NITRO_BLOBS = Path("/usr/share/nitro_enclaves/blobs")
_MAX_CONFIG = 1 << 20  # bytes; a kernel's .config has 100 to 300 kB
# nitro-cli's own: https://github.com/aws/aws-nitro-enclaves-cli/tree/v1.4.2/blobs
_CMDLINE = {
    Arch.X86_64: "reboot=k panic=30 pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp "
    "i8042.dumbkbd random.trust_cpu=on",
    Arch.ARM64: "reboot=k panic=30 pci=off nomodules console=ttyS0 random.trust_cpu=on root=/dev/ram0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobPaths:
    """The user's choice of boot files: a folder, or single files that have precedence over it."""

    folder: Path | None = None
    kernel: Path | None = None
    init: Path | None = None
    nsm_module: Path | None = None
    cmdline: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootBlobs:
    """The open boot files. ``files`` are those of the boot ramdisk, in order."""

    kernel_path: Path
    kernel: FileRange
    kernel_arch: Arch | None
    kernel_system: tuple[str, str]
    files: tuple[BootFile, ...]
    cmdline: str
    hashes: Mapping[str, str]


def require_blobs(paths: BlobPaths, environ: Mapping[str, str]) -> None:
    """Check that boot files exist; call this before minutes of building.

    Raises:
        HostError: there is no kernel for any architecture, or no init.
    """
    folder = _folder(paths, environ)
    kernels = [folder / arch.kernel_name for arch in Arch] if folder else []
    if paths.kernel is None and not any(map(is_regular, kernels)):
        _in(folder, Arch.X86_64.kernel_name)
    if paths.init is None:
        _in(folder, "init")


def likely_arch(paths: BlobPaths, environ: Mapping[str, str]) -> Arch:
    """Return the architecture of the boot kernel; this machine's, if there is a kernel for each.

    Raises:
        UsageError: a named kernel cannot be read.
    """
    folder = _folder(paths, environ)
    if paths.kernel is not None:
        with open_regular(paths.kernel, what="kernel") as file:
            found = kernel_arch(whole_file(file).head(0x210))
        if found is not None:
            return found
    elif folder is not None:
        there = [arch for arch in Arch if is_regular(folder / arch.kernel_name)]
        if len(there) == 1:
            return there[0]
    return Arch.ARM64 if platform.machine() == "aarch64" else Arch.X86_64


def _folder(paths: BlobPaths, environ: Mapping[str, str]) -> Path | None:
    if paths.folder is None and (paths.kernel is None or paths.init is None):
        return Path(environ.get("NITRO_CLI_BLOBS") or NITRO_BLOBS)
    return paths.folder


@contextmanager
def open_blobs(paths: BlobPaths, arch: Arch, *, environ: Mapping[str, str]) -> Iterator[BootBlobs]:
    """Open the boot files for an architecture until the context ends.

    Raises:
        HostError: there is no kernel or no init.
        UsageError: a named file cannot be read.
    """
    folder = _folder(paths, environ)
    kernel = paths.kernel or _in(folder, arch.kernel_name)
    init = paths.init or _in(folder, "init")
    modules = _modules(folder)
    if paths.nsm_module is not None:
        modules = {"nsm.ko": paths.nsm_module}
    with ExitStack() as stack:
        blob = whole_file(stack.enter_context(open_regular(kernel, what="kernel")))
        files = []
        hashes = {"kernel": blob.sha256()}
        for name, path in {"init": init, **modules}.items():
            data = whole_file(stack.enter_context(open_regular(path, what="boot file")))
            files.append(BootFile(name=name, data=data))
            hashes[name] = data.sha256()
        cmdline = _cmdline(folder, arch) if paths.cmdline is None else paths.cmdline
        yield BootBlobs(
            kernel_path=kernel,
            kernel=blob,
            kernel_arch=kernel_arch(blob.head(0x210)),
            kernel_system=_system(kernel, blob),
            files=tuple(files),
            cmdline=cmdline,
            hashes=hashes,
        )


def _in(folder: Path | None, name: str) -> Path:
    path = None if folder is None else folder / name
    if path is None or not is_regular(path):
        raise HostError(
            f"no {name} to boot with: expected {path or 'a file'}",
            hint="install aws-nitro-enclaves-cli-devel, or make a set from a distribution's kernel: "
            "enclavectl kernel prepare --to DIR, then build --blobs DIR",
            code="blobs-missing",
        )
    return path


def _modules(folder: Path | None) -> dict[str, Path]:
    """Find the kernel modules: nitro-cli's one, or ours, numbered in the order of loading."""
    if folder is None:
        return {}
    if is_regular(folder / "nsm.ko"):
        return {"nsm.ko": folder / "nsm.ko"}
    return {path.name: path for path in sorted(folder.glob("modules/*.ko"))}


def _cmdline(folder: Path | None, arch: Arch) -> str:
    path = None if folder is None else folder / "cmdline"
    if path is None or not is_regular(path):
        return _CMDLINE[arch]
    return read_bounded(path, MAX_CMDLINE, what="kernel command line").decode("utf-8", "replace").strip()


def _system(path: Path, kernel: FileRange) -> tuple[str, str]:
    """Return operating system and version for the metadata: line 3 of the kernel's .config, as in nitro-cli.

    Without a .config they come from the bzImage: https://docs.kernel.org/arch/x86/boot.html, kernel_version.
    """
    config = path.with_name(path.name + ".config")
    if is_regular(config):
        lines = (
            read_bounded(config, _MAX_CONFIG, what="kernel configuration")
            .decode("utf-8", "replace")
            .split("\n")
        )
        words = lines[2].replace("/", " ").replace("-", " ").split(" ") if len(lines) > 2 else []
        if len(words) > 3:
            return words[1], words[3]
    head = kernel.head(0x8000)
    if kernel_arch(head) is Arch.X86_64:
        (pointer,) = struct.unpack_from("<H", head, 0x20E)
        text = head[pointer + 0x200 :].partition(b"\0")[0].partition(b" ")[0] if pointer else b""
        if text and text.isascii():
            return "Linux", text.decode()
    return "Linux", "unknown"
