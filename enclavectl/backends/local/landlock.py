"""Landlock: which files a process may read, and that it signals and reaches nobody outside its domain.

https://docs.kernel.org/userspace-api/landlock.html. Unlike a tree of mounts it needs no namespace.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from enclavectl.backends.local import kernel

# include/uapi/linux/landlock.h
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
# The file rights that each version of the interface knows: all are handled, so all are refused.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK = 0b11  # bind and connect with TCP, from version 4
_SCOPES = 0b11  # abstract Unix sockets and signals, from version 6
_SCOPES_FROM = 6


def restrict_files(readable: Iterable[Path], devices: Iterable[Path]) -> None:
    """Allow to read ``readable`` and what is below, and to read and write ``devices``; no other file.

    Raises:
        OSError: the kernel has no Landlock, or it is not switched on.
    """
    version = kernel.landlock_version()
    rights = (1 << _FILE_RIGHTS.get(version, max(_FILE_RIGHTS.values()))) - 1
    # A kernel takes the shorter structure of an older version.
    words = [rights, _NETWORK, _SCOPES][: 1 + (version >= 4) + (version >= _SCOPES_FROM)]
    ruleset = kernel.landlock_ruleset(struct.pack(f"={len(words)}Q", *words))
    try:
        for path in readable:
            _allow(ruleset, path, _READ_FILE)
        for path in devices:
            _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
        kernel.landlock_restrict(ruleset)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        kernel.landlock_allow(ruleset, handle, rights | _READ_DIR if is_folder else rights)
    finally:
        os.close(handle)
