"""The memory through which a picture reaches its decoder: one for each decoder, and never one for two.

The key holder writes and does not read: whatever a decoder that somebody owns does to this memory, it does to
its own picture. Nor can it take the memory away below a write, since its size is sealed.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from enclave_payload.media import MAX_PICTURE_BYTES
from enclave_payload.wire import Buffer

# A write to memory that was cut off would kill the writer (SIGBUS).
_FIXED_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
# They take no memory: it is the kernel's one page of zeros that is read.
_ZEROS = memoryview(bytes(MAX_PICTURE_BYTES))


def create_memory() -> int:
    """Return a descriptor of fresh memory for the largest picture; the kernel gives pages as they are used.

    Raises:
        OSError: the kernel has no memory, or no memfd_create (Linux 3.17).
    """
    descriptor = os.memfd_create("picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, MAX_PICTURE_BYTES)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _FIXED_SIZE)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class SharedPicture:
    """Memory that holds at most one picture."""

    def __init__(self, descriptor: int) -> None:
        """Map it; the descriptor may be closed after.

        Raises:
            OSError: the memory that this process may have is used up.
        """
        self._map = mmap.mmap(descriptor, MAX_PICTURE_BYTES)

    def put(self, picture: Buffer) -> None:
        """Write the picture, of at most ``MAX_PICTURE_BYTES``, from the start on."""
        self._map[: len(picture)] = picture

    def take(self, size: int) -> bytes:
        """Return a copy of the first ``size`` bytes, and wipe them: no picture outlives its answer here."""
        picture = self._map[:size]
        # Wiped and not given back: the pages of the next picture would have to be cleared and mapped anew.
        self._map[:size] = _ZEROS[:size]
        return picture

    def close(self) -> None:
        """Let go of it."""
        self._map.close()
