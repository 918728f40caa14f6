"""A total, bounded reader of FlatBuffers tables: any bytes give values or ``FlatbufferError``.

The form: https://flatbuffers.dev/internals. Every offset must stay within the file; a vector of tables counts
an offset for each entry before one is read; at most ``MAX_TABLES`` tables are visited.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

# The largest classifiers have some 3,000 tensors and operators.
MAX_TABLES = 100_000
# Of a name or a description; metadata may hold a page of text.
_MAX_TEXT_BYTES = 4096


class FlatbufferError(ValueError):
    """The bytes are no tables of that form: damaged, cut, or hostile."""


@dataclass(slots=True)
class Buffer:
    """The bytes, and how many tables may still be visited."""

    data: bytes
    tables_left: int = field(default=MAX_TABLES)

    def number(self, form: str, place: int) -> int:
        """Read a little-endian number."""
        try:
            (value,) = struct.unpack_from("<" + form, self.data, self._within(place))
        except struct.error as exc:
            raise FlatbufferError("an offset beyond the end") from exc
        return int(value)

    def real(self, place: int) -> float:
        """Read a float32."""
        try:
            (value,) = struct.unpack_from("<f", self.data, self._within(place))
        except struct.error as exc:
            raise FlatbufferError("an offset beyond the end") from exc
        return float(value)

    def root(self, identifier: bytes) -> Table:
        """Return the root table of a buffer with this identifier.

        Raises:
            FlatbufferError: another one, or none.
        """
        if self.data[4:8] != identifier:
            raise FlatbufferError(f"expected the identifier {identifier.decode()}")
        return self.table(self.number("I", 0))

    def table(self, place: int) -> Table:
        """Return the table at ``place``."""
        self.tables_left -= 1
        if self.tables_left < 0:
            raise FlatbufferError(f"more than {MAX_TABLES} tables")
        vtable = place - self.number("i", place)
        size = self.number("H", vtable)
        if size < 4 or size % 2:
            raise FlatbufferError("a table of no form")
        return Table(self, place, vtable, (size - 4) // 2)

    def _within(self, place: int) -> int:
        # struct would count a negative place from the end.
        if not 0 <= place <= len(self.data):
            raise FlatbufferError("an offset beyond the end")
        return place


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose fields are read by number; a field that is absent has its default."""

    buffer: Buffer
    place: int
    vtable: int
    fields: int

    def _offset(self, field_number: int) -> int:
        if field_number >= self.fields:
            return 0
        offset = self.buffer.number("H", self.vtable + 4 + 2 * field_number)
        return self.place + offset if offset else 0

    def number(self, field_number: int, form: str) -> int:
        """Return a scalar of a ``struct`` form; 0 if it is left out."""
        place = self._offset(field_number)
        return self.buffer.number(form, place) if place else 0

    def _vector(self, field_number: int, width: int) -> tuple[int, int]:
        """Return the place of a vector's first entry, and their number."""
        place = self._offset(field_number)
        if not place:
            return 0, 0
        start = place + self.buffer.number("I", place)
        count = self.buffer.number("I", start)
        if start + 4 + count * width > len(self.buffer.data):
            raise FlatbufferError("a vector beyond the end")
        return start + 4, count

    def numbers(self, field_number: int, form: str) -> list[int]:
        """Return a vector of integers."""
        width = struct.calcsize("<" + form)
        start, count = self._vector(field_number, width)
        return [self.buffer.number(form, start + width * index) for index in range(count)]

    def reals(self, field_number: int) -> list[float]:
        """Return a vector of float32."""
        start, count = self._vector(field_number, 4)
        return [self.buffer.real(start + 4 * index) for index in range(count)]

    def data(self, field_number: int) -> bytes:
        """Return a vector of bytes."""
        start, count = self._vector(field_number, 1)
        return self.buffer.data[start : start + count]

    def text(self, field_number: int) -> str:
        """Return a string, or its beginning."""
        start, count = self._vector(field_number, 1)
        return self.buffer.data[start : start + min(count, _MAX_TEXT_BYTES)].decode(errors="replace")

    def table(self, field_number: int) -> Table | None:
        """Return the table that a field points to."""
        place = self._offset(field_number)
        return self.buffer.table(place + self.buffer.number("I", place)) if place else None

    def tables(self, field_number: int) -> Iterator[Table]:
        """Yield the tables of a vector."""
        start, count = self._vector(field_number, 4)
        if count > self.buffer.tables_left:
            raise FlatbufferError(f"more than {MAX_TABLES} tables")
        for place in range(start, start + 4 * count, 4):
            yield self.buffer.table(place + self.buffer.number("I", place))
