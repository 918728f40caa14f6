"""A range of an open file: how the modules here hand data on without holding it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from enclavectl.eif.errors import EifError

# Large enough that per-chunk costs vanish beside hashing (some 1.4 ms), small enough for the L2 cache.
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """``size`` bytes at ``offset`` of ``file``. Nothing is read before it is asked for.

    The file stays open as long as the blob is used; the file's position is not preserved.
    """

    file: BinaryIO
    offset: int
    size: int

    def chunks(self) -> Iterator[bytes]:
        """The bytes in pieces of at most ``CHUNK``.

        Raises:
            EifError: ``short-read``; the file ended early, so it changed while we read it.
        """
        position, end = self.offset, self.offset + self.size
        while position < end:
            self.file.seek(position)
            data = self.file.read(min(CHUNK, end - position))
            if not data:
                raise EifError(f"the file ended; expected {end} bytes", code="short-read", offset=position)
            position += len(data)
            yield data

    def read(self, limit: int) -> bytes:
        """All bytes at once.

        Raises:
            EifError: ``section-too-large`` (more than ``limit`` bytes; nothing was read) or ``short-read``.
        """
        if self.size > limit:
            raise EifError(
                f"expected at most {limit} bytes, found {self.size}",
                code="section-too-large",
                offset=self.offset,
            )
        return b"".join(self.chunks())

    def head(self, limit: int) -> bytes:
        """The first ``limit`` bytes, or fewer where the blob is shorter."""
        return b"".join(Blob(file=self.file, offset=self.offset, size=min(limit, self.size)).chunks())


def blob_of(data: bytes) -> Blob:
    """``data`` as a blob."""
    return Blob(file=io.BytesIO(data), offset=0, size=len(data))


def whole_file(file: BinaryIO) -> Blob:
    """All of an open, seekable file."""
    return Blob(file=file, offset=0, size=file.seek(0, io.SEEK_END))
