"""Compressed streams: recognized by their first bytes and unpacked in bounded pieces.

Layers, ramdisks, kernels and the search for secrets all use this reader of gzip, bzip2, xz, lzma and zstd.
zstd comes from the standard library of Python 3.14 or from its backport, which has the same interface; unlike
the package zstandard, it bounds the output of one call. lz4 and lzo are recognized but not unpacked.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from enum import Enum, StrEnum
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE = 1 << 20  # the chunk size of FileRange, so that readers handle packed and plain data alike
MAX_XZ_MEMORY = 256 << 20  # bytes of one dictionary; `xz -9` needs 65 MiB


class PackedError(ValueError):
    """Packed data is damaged, ends early, or is followed by something else."""


class Packing(StrEnum):
    """The compression formats."""

    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    LZMA = "lzma"
    ZSTD = "zstd"
    LZ4 = "lz4"
    LZ4_FRAME = "lz4 frames"
    LZO = "lzo"

    @property
    def is_readable(self) -> bool:
        """True if an ``Unpacker`` can read it."""
        return self in _MAKERS

    @property
    def is_bootable(self) -> bool:
        """True if Linux unpacks a ramdisk in this format; of lz4 it reads only the older form."""
        return self is not Packing.LZ4_FRAME


# The kernel compares two bytes (lib/decompress.c, compressed_formats); these are the formats' whole magics:
# https://github.com/torvalds/linux/blob/v6.12/lib/decompress.c
_MAGIC = {
    b"\x1f\x8b\x08": Packing.GZIP,
    b"BZh": Packing.BZIP2,
    b"\xfd7zXZ\0": Packing.XZ,
    b"\x5d\0\0": Packing.LZMA,
    b"\x28\xb5\x2f\xfd": Packing.ZSTD,
    b"\x02\x21\x4c\x18": Packing.LZ4,
    b"\x04\x22\x4d\x18": Packing.LZ4_FRAME,
    b"\x89LZO": Packing.LZO,
    # Skippable frames, which pzstd writes first: https://www.rfc-editor.org/rfc/rfc8878#section-3.1.2
    **{bytes([0x50 + number]) + b"\x2a\x4d\x18": Packing.ZSTD for number in range(16)},
}
MAGIC_SIZE = max(map(len, _MAGIC))


def packing_of(head: bytes) -> Packing | None:
    """Return the packing of data that begins with ``head``, ``MAGIC_SIZE`` bytes or more; None if plain."""
    return next((packing for magic, packing in _MAGIC.items() if head.startswith(magic)), None)


class Decompressor(Protocol):
    """The decompressor of a module; ``zlib``'s has ``unconsumed_tail``, the others ``needs_input``."""

    @property
    def eof(self) -> bool:
        """True at the end of the packed data."""
        ...

    @property
    def unused_data(self) -> bytes:
        """The bytes after the end of the packed data."""
        ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Unpack at most ``max_length`` bytes."""
        ...


def _zstd(memory: int) -> Decompressor:
    """Make a reader of one frame, skippable frames included; ``memory`` bounds its window."""
    window = {int(zstd.DecompressionParameter.window_log_max): memory.bit_length() - 1}
    return zstd.ZstdDecompressor(options=window)


_MAKERS: dict[Packing, Callable[[int], Decompressor]] = {
    Packing.GZIP: lambda _: zlib.decompressobj(wbits=31),
    Packing.BZIP2: lambda _: bz2.BZ2Decompressor(),
    Packing.XZ: lambda memory: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=memory),
    Packing.LZMA: lambda memory: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=memory),
    Packing.ZSTD: _zstd,
}


def unpack_pieces(stream: Decompressor, data: bytes) -> Iterator[bytes]:
    """Unpack ``data`` completely, in pieces of at most ``PIECE`` bytes.

    Raises:
        PackedError: the data is damaged.
    """
    while True:
        try:
            piece = stream.decompress(data, PIECE)
        except (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, EOFError, ValueError) as exc:
            raise PackedError(str(exc)) from exc
        yield piece
        data = getattr(stream, "unconsumed_tail", b"")
        if stream.eof or (not data and getattr(stream, "needs_input", len(piece) < PIECE)):
            return


class TrailingData(Enum):
    """The data allowed after packed data: more of its kind, the same with zeros between, or anything."""

    MORE = "more"
    ZEROS = "zeros"
    ANYTHING = "anything"


class Unpacker:
    """A push unpacker of packed data."""

    def __init__(
        self, packing: Packing, *, after: TrailingData = TrailingData.MORE, memory: int = MAX_XZ_MEMORY
    ) -> None:
        """Start an unpacker of a readable ``packing``; ``memory`` bounds xz and lzma, in bytes."""
        self._make = _MAKERS[packing]
        self._after, self._memory = after, memory
        self._stream = self._make(memory)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Unpack the next packed bytes, in pieces of at most ``PIECE`` bytes.

        Raises:
            PackedError: the bytes are damaged, or follow the end of the packed data and are of another kind.
        """
        while data:
            if self._stream.eof:
                if self._after is TrailingData.ANYTHING:
                    return
                data = data.lstrip(b"\0") if self._after is TrailingData.ZEROS else data
                if not data:
                    return
                self._stream = self._make(self._memory)
            yield from unpack_pieces(self._stream, data)
            data = self._stream.unused_data if self._stream.eof else b""

    def finish(self) -> None:
        """Check that the packed data is complete.

        Raises:
            PackedError: it ends early.
        """
        if not self._stream.eof:
            raise PackedError("the packed data ends early")
