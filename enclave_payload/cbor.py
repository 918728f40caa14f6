"""The part of CBOR (RFC 8949) that the enclave speaks: with its NSM, and inside sealed answers.

The decoder is total: for any bytes it returns a value or raises ``CborError``, and what it builds is
bounded by the length of its input. It knows 64-bit integers, byte strings, text, arrays, maps, null, true
and false, in definite lengths only. The NSM writes those: Linux compares the start of an answer with fixed
bytes (https://github.com/torvalds/linux/blob/v6.8/drivers/misc/nsm.c, ``parse_resp_get_random``).
Attestation documents are not read here; the client's strict decoder is ``enclavectl.attestation.cbor``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NoReturn, TypeAlias

Value: TypeAlias = "int | bytes | str | bool | list[Value] | dict[int | str, Value] | None"
# Three mappings, because a mapping's type is exact in its keys.
Encodable: TypeAlias = (
    "int | bytes | str | Sequence[Encodable]"
    " | Mapping[int, Encodable] | Mapping[str, Encodable] | Mapping[int | str, Encodable] | None"
)

# The deepest map that we read is the sealed model's release: header, release, kms, context.
MAX_DEPTH = 4
_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES: dict[int, bool | None] = {20: False, 21: True, 22: None}


class CborError(ValueError):
    """The bytes are not CBOR of the kind that this decoder takes."""


def encode(value: Encodable) -> bytes:
    """Encode deterministically (RFC 8949 section 4.2.1): shortest heads, keys in the order of their bytes.

    Raises:
        TypeError, OverflowError: a float or another type, or an integer of over 64 bits; a bug of the caller.
    """
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def _write(value: Encodable, parts: list[bytes]) -> None:
    if isinstance(value, str):
        text = value.encode()
        parts += (_head(_TEXT, len(text)), text)
    elif isinstance(value, bytes):
        parts += (_head(_BYTES, len(value)), value)
    elif value is None or isinstance(value, bool):
        parts.append({False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value])
    elif isinstance(value, int):
        parts.append(_head(_UINT, value) if value >= 0 else _head(_NEGATIVE, -1 - value))
    elif isinstance(value, list | tuple):
        parts.append(_head(_ARRAY, len(value)))
        for item in value:
            _write(item, parts)
    elif isinstance(value, Mapping):
        parts.append(_head(_MAP, len(value)))
        # No two keys have the same bytes, so the items are never compared.
        for key, item in sorted([(_key(key), item) for key, item in value.items()]):
            parts.append(key)
            _write(item, parts)
    else:
        raise TypeError(f"{type(value).__name__} is not encoded")


@lru_cache(maxsize=256, typed=True)  # they are few, and the same in each answer
def _key(key: int | str) -> bytes:
    return encode(key)


# The heads of one byte, which most are.
_SHORT = [[bytes([major << 5 | argument]) for argument in range(24)] for major in range(_TAG)]


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return _SHORT[major][argument]
    bits = argument.bit_length()
    exponent = (bits > 8) + (bits > 16) + (bits > 32)
    return bytes((major << 5 | 24 + exponent,)) + argument.to_bytes(1 << exponent, "big")


def decode(data: bytes, *, max_bytes: int) -> Value:
    """Decode the one value that ``data`` holds.

    Raises:
        CborError: too long or too deep, cut short, followed by something, or another kind of CBOR.
    """
    return decode_with_form(data, max_bytes=max_bytes)[0]


def decode_with_form(data: bytes, *, max_bytes: int) -> tuple[Value, bool]:
    """Return the one value that ``data`` holds, and whether ``data`` is what ``encode`` makes of it.

    Raises:
        CborError: as ``decode``.
    """
    if len(data) > max_bytes:
        raise CborError(f"expected at most {max_bytes} bytes, found {len(data)}")
    reader = _Reader(data)
    value, end = reader.value(0, MAX_DEPTH)
    if end != len(data):
        raise CborError(f"{len(data) - end} bytes follow the value")
    return value, reader.is_deterministic


class _Reader:
    """Each method returns what begins at ``start``, and where it ends."""

    __slots__ = ("_data", "is_deterministic")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.is_deterministic = True

    def value(self, start: int, depth: int) -> tuple[Value, int]:
        data = self._data
        if start >= len(data):
            raise CborError(f"expected 1 more bytes at byte {start}, found 0")
        major, argument = data[start] >> 5, data[start] & 31
        start += 1
        if argument >= 24:
            argument, start = self._long(major, argument, start)
        if _BYTES <= major <= _TEXT:
            end = start + argument
            if end > len(data):
                raise CborError(f"expected {argument} more bytes at byte {start}, found {len(data) - start}")
            chunk = data[start:end]
            return (chunk if major == _BYTES else _text(chunk)), end
        if major <= _NEGATIVE:
            return (argument if major == _UINT else -1 - argument), start
        if major == _SIMPLE and argument in _SIMPLE_VALUES:
            return _SIMPLE_VALUES[argument], start
        if major >= _TAG:
            _refuse(start - 1)
        if depth == 0:
            raise CborError("nested too deeply")
        # Every item takes a byte at least, so a count that the rest cannot hold ends with the input.
        return self._array(start, depth, argument) if major == _ARRAY else self._map(start, depth, argument)

    def _long(self, major: int, info: int, start: int) -> tuple[int, int]:
        if major == _SIMPLE or info > 27:
            _refuse(start - 1)
        end = start + (1 << (info - 24))
        if end > len(self._data):
            raise CborError(f"expected {end - start} more bytes at byte {start}: a head that is cut short")
        argument = int.from_bytes(self._data[start:end], "big")
        if argument < _LEAST[info - 24]:
            self.is_deterministic = False
        return argument, end

    def _array(self, start: int, depth: int, count: int) -> tuple[list[Value], int]:
        items: list[Value] = []
        for _ in range(count):
            item, start = self.value(start, depth - 1)
            items.append(item)
        return items, start

    def _map(self, start: int, depth: int, count: int) -> tuple[dict[int | str, Value], int]:
        pairs: dict[int | str, Value] = {}
        last = b""
        for _ in range(count):
            key, end = self.value(start, 0)
            # To Python a bool is an int: False and True would pass for the keys 0 and 1.
            if not isinstance(key, int | str) or isinstance(key, bool) or key in pairs:
                raise CborError("a map key that is neither an integer nor text, or comes twice")
            name = self._data[start:end]
            if name < last:
                self.is_deterministic = False
            last = name
            pairs[key], start = self.value(end, depth - 1)
        return pairs, start


# The least arguments that need one, two, four and eight bytes.
_LEAST = (24, 1 << 8, 1 << 16, 1 << 32)


def _refuse(at: int) -> NoReturn:
    raise CborError(f"a tag, a float, an indefinite length or a reserved form at byte {at}")


def _text(chunk: bytes) -> str:
    try:
        return chunk.decode()
    except UnicodeDecodeError as exc:
        raise CborError("text is not UTF-8") from exc
