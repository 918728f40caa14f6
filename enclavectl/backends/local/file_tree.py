"""The file tree of the local payload: what it needs to run, read-only, and nothing else of the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from enclavectl.backends.local import kernel

_PACKAGES = ("enclavectl", "enclave_payload")
# Where distributions keep shared libraries, and what the dynamic linker finds them with. The last two are of
# distributions that have each package in a folder of its own (NixOS, Guix).
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/nix/store")
# TFLite chooses its kernels by them.
_PROCESSORS = ("/proc/cpuinfo", "/sys/devices/system/cpu")
DEVICES = (Path("/dev/null"), Path("/dev/urandom"))


class FileTree(NamedTuple):
    """What is readable, each at its own place, and the symbolic links that lead there."""

    readable: tuple[Path, ...]
    links: tuple[tuple[Path, Path], ...]


def needed_files(extra: Iterable[Path]) -> FileTree:
    """Return the interpreter, its libraries and packages, the two packages of this project, and ``extra``."""
    readable: list[Path] = []
    links: list[tuple[Path, Path]] = []
    wanted = [
        *map(Path, (*_LIBRARIES, *_PROCESSORS)),
        Path(sys.base_exec_prefix, "lib"),
        Path(sys.base_prefix, "lib"),
    ]
    for entry in map(Path, sys.path):
        # A project's folder on the path holds more than its packages: tests, secrets, a repository.
        is_project = (entry / _PACKAGES[0]).is_dir() and not entry.name.endswith("-packages")
        wanted += [entry / name for name in _PACKAGES] if is_project else [entry]
    for path in (*wanted, *extra):
        if not path.is_absolute() or not path.exists():
            continue
        real = path.resolve()
        if real != path:
            links.append((path, real))
        if not any(real.is_relative_to(other) for other in readable):
            readable = [other for other in readable if not other.is_relative_to(real)] + [real]
    return FileTree(tuple(readable), tuple(links))


def enter_file_tree(tree: FileTree, folder: Path) -> None:
    """Build the tree in ``folder``, an empty one, and make it the root. The current folder becomes ``/``.

    The process has a mount namespace of its own, in which it may mount.

    Raises:
        OSError: the kernel refuses a step.
    """
    # What others mount from now on does not come here, and nothing of ours goes there.
    kernel.mount("none", Path("/"), None, kernel.MS_REC | kernel.MS_SLAVE)
    # Folders and empty files only: a few pages.
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", folder, "tmpfs", flags, "mode=0755,size=1m")
    for real in (*tree.readable, *DEVICES):
        place = folder / real.relative_to("/")
        if real.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        # With everything below: a part of it that is mounted over could not be bound without.
        kernel.mount(str(real), place, None, kernel.MS_BIND | kernel.MS_REC)
    for path, real in tree.links:
        place = folder / path.relative_to("/")
        if not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(real)
    kernel.make_read_only(folder)
    kernel.change_root(folder)
