"""The few CBOR items of a signature section, in the one encoding that is accepted: shortest, definite."""

from __future__ import annotations

from enclavectl.eif.errors import EifError


def _head(major: int, count: int) -> bytes:
    """Return a CBOR head in its shortest form; no item here is 65,536 bytes or longer."""
    if count < 24:
        return bytes([major | count])
    if count < 256:
        return bytes([major | 24, count])
    return bytes([major | 25]) + count.to_bytes(2)


def byte_string(data: bytes) -> bytes:
    """Return a CBOR byte string."""
    return _head(0x40, len(data)) + data


def array(data: bytes) -> bytes:
    """Return an array of integers, one for each byte, as serde encodes a Rust ``Vec<u8>``."""
    return _head(0x80, len(data)) + b"".join([_head(0, value) for value in data])


class Reader:
    """A reader that accepts only the output of ``byte_string``, ``array`` and the writer's literals.

    Any other input raises an ``EifError`` with ``code``; ``base`` is the offset of the data in the file.
    """

    def __init__(self, data: bytes, code: str, base: int) -> None:
        self._data, self._code, self._base, self._at = data, code, base, 0

    def expect(self, literal: bytes) -> None:
        """Step over exactly these bytes."""
        if not self._data.startswith(literal, self._at):
            found = self._data[self._at : self._at + len(literal)].hex() or "the end"
            raise self._error(f"expected {literal.hex()}, found {found}")
        self._at += len(literal)

    def byte_string(self) -> bytes:
        """Read a byte string and return its content."""
        size = self._number(0x40)
        data = self._data[self._at : self._at + size]
        if len(data) != size:
            raise self._error(f"expected {size} more bytes, found {len(data)}")
        self._at += size
        return data

    def array(self) -> bytes:
        """Read an array of integers and return it as bytes."""
        return bytes([self._octet() for _ in range(self._number(0x80))])

    def end(self) -> None:
        """Refuse any byte that follows."""
        if self._at != len(self._data):
            raise self._error(f"{len(self._data) - self._at} bytes too many")

    def _octet(self) -> int:
        value = self._number(0)
        if value > 255:
            raise self._error(f"expected an integer up to 255, found {value}")
        return value

    def _number(self, major: int) -> int:
        for extra, least in ((0, 0), (1, 24), (2, 256)):
            head = self._data[self._at : self._at + 1 + extra]
            if len(head) != 1 + extra:
                raise self._error("the data ends early")
            info = head[0] - major
            if extra == 0 and 0 <= info < 24:
                self._at += 1
                return info
            if extra and info == 23 + extra:
                value = int.from_bytes(head[1:])
                if value < least:
                    raise self._error("a number is not in its shortest form")
                self._at += 1 + extra
                return value
        raise self._error(f"expected a CBOR head of major type {major >> 5}, found {self._data[self._at]:#x}")

    def _error(self, text: str) -> EifError:
        return EifError(f"{self._code}: {text}", code=self._code, offset=self._base + self._at)
