"""A strict reader of the CBOR (RFC 8949) in attestation documents, which an attacker may have written.

The decoder is total: for any bytes it returns a value or raises CborError. The size of the value is
bounded by the length of the input, whatever lengths the input declares. It knows the part of CBOR
that the NSM and this project use: 64-bit integers, byte strings, text, arrays, maps, null, true and
false. Floats, other simple values and tags are refused; so is a map key that is not an integer or
text, which keeps Python's ``0 == False == 0.0`` from merging two keys into one. Indefinite lengths are
accepted, because AWS has written them in payloads since 2025.

Not cbor2: no option of it refuses tags, floats or simple values, its 6.1, the first that refuses duplicate
keys, misread files of over 4 KiB, and a second decoder is what the fuzzers hold this one to.
"""

from __future__ import annotations

from typing import TypeAlias

Value: TypeAlias = "int | bytes | str | bool | list[Value] | dict[int | str, Value] | None"

# Twice what a document may have (cose.MAX_DOCUMENT_BYTES), which is twice AWS's own limit.
MAX_BYTES = 64 * 1024
# A document nests three deep: the envelope's array, the payload's map, its map of registers.
MAX_DEPTH = 8

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES = {20: False, 21: True, 22: None}
_BREAK = 0xFF
_INDEFINITE = -1  # in place of a length: the item ends at the break


class CborError(ValueError):
    """The bytes are not CBOR that this decoder accepts; ``offset`` is where it stopped."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(f"{problem} at byte {offset}")
        self.offset = offset


def decode(
    data: bytes,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    optional_tag: int | None = None,
) -> Value:
    """Decode ``data``, which must be exactly one value.

    ``max_depth`` bounds the nesting of arrays and maps (keep it far below Python's recursion limit).
    One ``optional_tag`` before the value is skipped.

    Raises:
        CborError: the bytes break a rule, or bytes follow the value.
    """
    if len(data) > max_bytes:
        raise CborError(f"expected at most {max_bytes} bytes, found {len(data)}", max_bytes)
    decoder = _Decoder(data)
    if optional_tag is not None:
        decoder.skip_tag(optional_tag)
    value = decoder.value(max_depth)
    if decoder.offset != len(data):
        raise CborError(f"{len(data) - decoder.offset} bytes follow the value", decoder.offset)
    return value


class _Decoder:
    __slots__ = ("_data", "offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def skip_tag(self, tag: int) -> None:
        if self._data and self._data[0] >> 5 == _TAG:
            _, found = self._head()
            if found != tag:
                raise CborError(f"expected no tag or tag {tag}, found tag {found}", 0)

    def value(self, depth: int) -> Value:
        start = self.offset
        major, argument = self._head()
        if major == _UINT:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
        if major == _BYTES:
            return b"".join(self._chunks(major, argument))
        if major == _TEXT:
            return self._text(argument)
        if major in (_ARRAY, _MAP):
            if depth <= 0:
                raise CborError("nested too deeply", start)
            return self._array(argument, depth - 1) if major == _ARRAY else self._map(argument, depth - 1)
        if major == _SIMPLE and self._data[start] & 31 in _SIMPLE_VALUES:
            return _SIMPLE_VALUES[self._data[start] & 31]
        raise CborError("a tag, a float or an unknown simple value", start)

    def _head(self) -> tuple[int, int]:
        """Read the major type and its argument: a number, a length, or _INDEFINITE."""
        start = self.offset
        if start >= len(self._data):
            raise CborError("expected 1 more bytes, found 0", start)
        initial = self._data[start]
        self.offset = start + 1
        major, info = initial >> 5, initial & 31
        if info < 24:
            return major, info
        if info == 31 and _BYTES <= major <= _MAP:
            return major, _INDEFINITE
        if info > 27:
            raise CborError("an indefinite length, a stray break or a reserved form", start)
        width = 1 << (info - 24)
        return major, int.from_bytes(self._take(width))

    def _take(self, count: int) -> bytes:
        left = len(self._data) - self.offset
        if count > left:
            raise CborError(f"expected {count} more bytes, found {left}", self.offset)
        start, self.offset = self.offset, self.offset + count
        return self._data[start : self.offset]

    def _at_break(self) -> bool:
        if self.offset < len(self._data) and self._data[self.offset] == _BREAK:
            self.offset += 1
            return True
        return False

    def _chunks(self, major: int, length: int) -> list[bytes]:
        if length != _INDEFINITE:
            return [self._take(length)]
        chunks = []
        while not self._at_break():
            start = self.offset
            chunk_major, chunk_length = self._head()
            if chunk_major != major or chunk_length == _INDEFINITE:
                raise CborError("expected a definite chunk of the same string", start)
            chunks.append(self._take(chunk_length))
        return chunks

    def _text(self, length: int) -> str:
        if length != _INDEFINITE:  # the fast path of nearly every key and value
            return self._utf8(self._take(length))
        return "".join([self._utf8(chunk) for chunk in self._chunks(_TEXT, length)])

    def _utf8(self, chunk: bytes) -> str:
        try:
            return chunk.decode()
        except UnicodeDecodeError as exc:
            raise CborError("text is not UTF-8", self.offset) from exc

    def _more(self, count: int, done: int) -> bool:
        return not self._at_break() if count == _INDEFINITE else done < count

    def _array(self, count: int, depth: int) -> list[Value]:
        self._check_room(count, 1)
        items: list[Value] = []
        while self._more(count, len(items)):
            items.append(self.value(depth))
        return items

    def _map(self, count: int, depth: int) -> dict[int | str, Value]:
        self._check_room(count, 2)
        pairs: dict[int | str, Value] = {}
        while self._more(count, len(pairs)):
            start = self.offset
            key = self.value(0)
            # Not isinstance: a bool is an int to Python and would alias the keys 0 and 1.
            if type(key) is not int and type(key) is not str:
                raise CborError("a map key that is neither an integer nor text", start)
            if key in pairs:
                raise CborError(f"duplicate map key {key!r:.40}", start)
            pairs[key] = self.value(depth)
        return pairs

    def _check_room(self, count: int, least: int) -> None:
        """Refuse a count that the rest of the input cannot hold, before anything is allocated for it."""
        if count * least > len(self._data) - self.offset:
            raise CborError(f"a count of {count} items that cannot fit", self.offset)
