"""A ramdisk section as the kernel reads it: cpio archives in sequence, the later ones possibly packed.

A plain archive, such as one of microcode, may precede a packed one. Packed data contains no packed data:
https://github.com/torvalds/linux/blob/v6.12/init/initramfs.c, unpack_to_rootfs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from enclavectl.eif.errors import CpioError
from enclavectl.eif.file_range import FileRange
from enclavectl.eif.packed import MAX_XZ_MEMORY, PIECE, PackedError, Packing, TrailingData, Unpacker
from enclavectl.eif.ramdisk.budget import ReadBudget
from enclavectl.eif.ramdisk.cpio import ByteSource, CpioReader

NOT_READ = "ramdisk-not-read"  # the code for a ramdisk that the kernel may boot and we cannot unpack
_BUFFER = 1 << 16  # bytes; headers have 110, and one system call each would cost more than the reading


class _RangeStream(io.RawIOBase):
    """A stream over a range; other users of the same file may move its position."""

    def __init__(self, data: FileRange) -> None:
        self._range, self._at = data, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # narrower than Buffer
        left = self._range.size - self._at
        if not left:
            return 0
        self._range.file.seek(self._range.offset + self._at)
        data = self._range.file.read(min(len(buffer), left))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class _PieceStream(io.RawIOBase):
    """A stream of consecutive pieces of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._piece = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # narrower than Buffer
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size


def read_ramdisk(data: FileRange, budget: ReadBudget | None = None) -> CpioReader:
    """Read a ramdisk section; ``budget`` is the whole image's, by default one for this section.

    Iteration raises ``CpioError`` also for ``ramdisk-packing`` (damaged), ``ramdisk-budget``, ``NOT_READ``.
    """
    budget = ReadBudget.for_size(data.size) if budget is None else budget

    def unpack(packing: Packing, head: bytes, source: ByteSource) -> ByteSource:
        return io.BufferedReader(_PieceStream(_unpacked(packing, head, source, budget)), PIECE)

    return CpioReader(io.BufferedReader(_RangeStream(data), _BUFFER), unpack=unpack, budget=budget)


def not_read_error(packing: Packing) -> CpioError:
    """Make the error for a ramdisk that the standard library cannot unpack."""
    return CpioError(f"packed with {packing}, which is not looked into", code=NOT_READ)


def _unpacked(packing: Packing, head: bytes, source: ByteSource, budget: ReadBudget) -> Iterator[bytes]:
    """Unpack ``head`` and the rest of ``source``."""
    if not packing.is_bootable:
        raise CpioError(f"packed with {packing}, which Linux does not unpack", code="ramdisk-packing")
    if not packing.is_readable:
        raise not_read_error(packing)
    unpacker = Unpacker(packing, after=TrailingData.ZEROS)
    try:
        while head:
            for piece in unpacker.feed(head):
                budget.spend_bytes(len(piece))
                yield piece
            head = source.read(_BUFFER)
        unpacker.finish()
    except PackedError as exc:
        if "Memory usage limit" in str(exc):  # liblzma's message for a dictionary that is too large
            text = f"packed with {packing} and a dictionary of over {MAX_XZ_MEMORY >> 20} MiB"
            raise CpioError(f"{text}, which is not looked into", code=NOT_READ) from exc
        raise CpioError(
            f"the ramdisk is packed with {packing} and damaged ({exc})", code="ramdisk-packing"
        ) from exc
