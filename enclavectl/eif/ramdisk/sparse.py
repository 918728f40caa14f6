"""Sparse files of a tar in GNU's pax forms 0.0, 0.1 and 1.0, read as whole files with zeros in the holes.

The forms: https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html. They are read as Docker's
reader reads them: numbers are decimal, and a member of an unknown version is no sparse file. See
``readGNUSparsePAXHeaders`` in https://github.com/golang/go/blob/go1.23.0/src/archive/tar/reader.go
"""

from __future__ import annotations

import io
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enclavectl.eif.errors import LayerError
from enclavectl.eif.file_range import FileRange

# For all layers of one image. A piece takes 24 bytes of memory, a file about 500 (counted as 16 pieces).
MAX_PIECES = 1 << 19
_FILE_COST = 16
# Bytes, for all layers of one image: holes become zeros in an enclave, which needs four times its ramdisk's
# size as memory.
MAX_HOLES = 4 << 30
MAX_MAP = 1 << 20  # bytes of a 1.0 map, as in Go's reader
_BLOCK = 512
_PREFIX = b"GNU.sparse."


@dataclass(slots=True)
class SparseBudget:
    """The remaining allowance of one image's sparse files: pieces in memory, and bytes of holes."""

    pieces: int = MAX_PIECES
    holes: int = MAX_HOLES

    def spend(self, pieces: int, holes: int, at: int) -> None:
        """Spend the cost of one file.

        Raises:
            LayerError: ``tar-sparse``; the budget is spent.
        """
        self.pieces -= pieces + _FILE_COST
        self.holes -= holes
        if self.pieces < 0 or self.holes < 0:
            raise LayerError(
                f"tar: sparse files of more than {MAX_HOLES >> 30} GiB of holes, or of too many pieces",
                code="tar-sparse",
                offset=at,
                hint="write the layer without sparse files: tar without --sparse",
            )


class SparseFile:
    """A sparse file whose holes read as zeros; a ``FileRange`` can refer to it."""

    def __init__(self, stored: FileRange, pieces: Sequence[tuple[int, int]], size: int) -> None:
        """Combine ``pieces``, the offset and length of each run of data in order, with their bytes in
        ``stored``.
        """
        self._stored, self._size, self._at = stored, size, 0
        self._starts = array("Q", [offset for offset, _ in pieces])
        self._ends = array("Q", [offset + length for offset, length in pieces])
        self._places = array("Q")
        place = stored.offset
        for _, length in pieces:
            self._places.append(place)
            place += length

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to ``offset`` from the start; a ``FileRange`` uses no other ``whence``."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        self._at = offset
        return offset

    def read(self, size: int, /) -> bytes:
        """Read the next ``size`` bytes, fewer at the end of the file."""
        end = min(self._size, self._at + size)
        found = bytearray(max(0, end - self._at))
        index = max(0, bisect_right(self._starts, self._at) - 1)
        while index < len(self._starts) and self._starts[index] < end:
            first, last = max(self._starts[index], self._at), min(self._ends[index], end)
            if first < last:
                self._stored.file.seek(self._places[index] + first - self._starts[index])
                data = self._stored.file.read(last - first)
                if len(data) != last - first:
                    return b""  # the archive was truncated while we read it; the FileRange reports that
                found[first - self._at : last - self._at] = data
            index += 1
        self._at = max(self._at, end)
        return bytes(found)


def is_sparse(records: Mapping[bytes, bytes]) -> bool:
    """Return True if the pax records of a member make it a sparse file for Docker's reader."""
    version = records.get(_PREFIX + b"major", b""), records.get(_PREFIX + b"minor", b"")
    if version == (b"", b""):
        return bool(records.get(_PREFIX + b"map"))
    return version in ((b"0", b"0"), (b"0", b"1"), (b"1", b"0"))


def sparse_name(records: Mapping[bytes, bytes]) -> bytes:
    """Return the name that replaces the header's name of a sparse member; empty if none does."""
    return records.get(_PREFIX + b"name", b"")


def expand(records: Mapping[bytes, bytes], data: FileRange, budget: SparseBudget, at: int) -> FileRange:
    """Return the whole file of a sparse member; ``data`` are its bytes in the archive.

    Raises:
        LayerError: ``tar-sparse``; its map is damaged or does not fit its data, or the budget is spent.
    """
    stored = data
    if records.get(_PREFIX + b"major") == b"1":
        numbers, used = _map_before(data, budget, at)
        stored = FileRange(file=data.file, offset=data.offset + used, size=data.size - used)
    else:
        numbers = _map_in_records(records, at)
    pieces = list(zip(numbers[::2], numbers[1::2], strict=True))
    text = records.get(_PREFIX + b"size") or records.get(_PREFIX + b"realsize")
    size = _number(text, at) if text else data.size
    end = 0
    for offset, length in pieces:
        if offset < end:
            raise _error("its pieces are not in ascending order", at)
        end = offset + length
    total = sum(length for _, length in pieces)
    if end > size or total != stored.size:
        raise _error(f"its map has {total} bytes up to byte {end} of {size}, the archive {stored.size}", at)
    budget.spend(len(pieces), size - total, at)
    return FileRange(file=SparseFile(stored, pieces, size), offset=0, size=size)


def _map_in_records(records: Mapping[bytes, bytes], at: int) -> list[int]:
    """Read the map of form 0.1; the tar reader has converted form 0.0 to it."""
    text = records.get(_PREFIX + b"map", b"")
    numbers = [_number(one, at) for one in text.split(b",")] if text else []
    if len(numbers) != 2 * _number(records.get(_PREFIX + b"numblocks", b""), at):
        raise _error("its map is not as long as it says", at)
    return numbers


def _map_before(data: FileRange, budget: SparseBudget, at: int) -> tuple[list[int], int]:
    """Read the map of form 1.0, whole blocks before the data; return it and its size in bytes."""
    text = data.head(min(MAX_MAP, data.size))
    first, newline, _ = text.partition(b"\n")
    count = _number(first, at) if newline else -1
    if not 0 <= count <= budget.pieces:
        raise _error(f"expected a map of at most {budget.pieces} pieces", at)
    fields = text.split(b"\n", 2 * count + 1)
    if len(fields) != 2 * count + 2:
        raise _error(f"its map ends early or has more than {MAX_MAP} bytes", at)
    used = len(text) - len(fields[-1])
    used += -used % _BLOCK
    if used > data.size:
        raise _error("its map ends early", at)
    return [_number(one, at) for one in fields[1:-1]], used


def _number(text: bytes, at: int) -> int:
    if not text.isdigit() or len(text) > 19 or int(text) >= 1 << 62:
        raise _error(f"expected a decimal number, found {text[:32]!r}", at)
    return int(text)


def _error(text: str, at: int) -> LayerError:
    return LayerError(f"tar: a sparse file: {text}", code="tar-sparse", offset=at)
