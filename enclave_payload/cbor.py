"""The part of CBOR (RFC 8949) that the enclave speaks: with its NSM, and inside sealed answers.

The decoder is total: for any bytes it returns a value or raises ``CborError``, and what it builds is
bounded by the length of its input. It knows 64-bit integers, byte strings, text, arrays, maps, null, true
and false, in definite lengths only. The NSM writes those: Linux compares the start of an answer with fixed
bytes (https://github.com/torvalds/linux/blob/v6.8/drivers/misc/nsm.c, ``parse_resp_get_random``).
Attestation documents are not read here; the client's strict decoder is ``enclavectl.attestation.cbor``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class Encoded(bytes):
    """A value that ``encode`` has encoded before, for what many messages have in common."""


def encode(value: Encodable) -> bytes:
    """Encode deterministically (RFC 8949 section 4.2.1): shortest heads, keys in the order of their bytes.

    Raises:
        TypeError, OverflowError: a float or another type, or an integer of over 64 bits; a bug of the caller.
    """
    if isinstance(value, bytes):
        return value if isinstance(value, Encoded) else _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(_TEXT, len(text)) + text
    if isinstance(value, int) and not isinstance(value, bool):
        return _head(_UINT, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if isinstance(value, list | tuple):  # before Mapping, which is slow to say no
        return _head(_ARRAY, len(value)) + b"".join([encode(item) for item in value])
    if isinstance(value, Mapping):
        pairs = sorted([(encode(key), encode(item)) for key, item in value.items()])
        return _head(_MAP, len(pairs)) + b"".join([key + item for key, item in pairs])
    if value is None or isinstance(value, bool):
        return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
    raise TypeError(f"{type(value).__name__} is not encoded")


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
    if len(data) > max_bytes:
        raise CborError(f"expected at most {max_bytes} bytes, found {len(data)}")
    value, end = _decode(data, 0, MAX_DEPTH)
    if end != len(data):
        raise CborError(f"{len(data) - end} bytes follow the value")
    return value


def _decode(data: bytes, start: int, depth: int) -> tuple[Value, int]:
    """Return the value that begins at ``start``, and where it ends."""
    first = _taken(data, start, 1)[0]
    major, argument = first >> 5, first & 31
    start += 1
    if argument >= 24:
        if major == _SIMPLE or argument > 27:
            _refuse(start - 1)
        width = 1 << (argument - 24)
        argument = int.from_bytes(_taken(data, start, width), "big")
        start += width
    if major == _UINT:
        return argument, start
    if major == _NEGATIVE:
        return -1 - argument, start
    if major == _BYTES:
        return _taken(data, start, argument), start + argument
    if major == _TEXT:
        return _text(_taken(data, start, argument)), start + argument
    if major == _SIMPLE and argument in _SIMPLE_VALUES:
        return _SIMPLE_VALUES[argument], start
    if major >= _TAG:
        _refuse(start - 1)
    if depth == 0:
        raise CborError("nested too deeply")
    # Every item takes a byte at least, so a count that the rest cannot hold ends with the input.
    return _array(data, start, depth, argument) if major == _ARRAY else _map(data, start, depth, argument)


def _refuse(at: int) -> NoReturn:
    raise CborError(f"a tag, a float, an indefinite length or a reserved form at byte {at}")


def _array(data: bytes, start: int, depth: int, count: int) -> tuple[list[Value], int]:
    items: list[Value] = []
    for _ in range(count):
        item, start = _decode(data, start, depth - 1)
        items.append(item)
    return items, start


def _map(data: bytes, start: int, depth: int, count: int) -> tuple[dict[int | str, Value], int]:
    pairs: dict[int | str, Value] = {}
    for _ in range(count):
        key, start = _decode(data, start, 0)
        # To Python a bool is an int: False and True would pass for the keys 0 and 1.
        if not isinstance(key, int | str) or isinstance(key, bool) or key in pairs:
            raise CborError("a map key that is neither an integer nor text, or comes twice")
        pairs[key], start = _decode(data, start, depth - 1)
    return pairs, start


def _taken(data: bytes, start: int, count: int) -> bytes:
    if count > len(data) - start:
        raise CborError(f"expected {count} more bytes at byte {start}, found {len(data) - start}")
    return data[start : start + count]


def _text(chunk: bytes) -> str:
    try:
        return chunk.decode()
    except UnicodeDecodeError as exc:
        raise CborError("text is not UTF-8") from exc
