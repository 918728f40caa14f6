"""The CRC-32 of two pieces from the CRC of each, so that a header can be written after the data.

A CRC is linear over GF(2): ``crc(a + b) = crc(a) * x^(8 * len(b)) + crc(b)`` modulo the polynomial. This is
zlib's ``crc32_combine`` (https://github.com/madler/zlib/blob/v1.3.1/crc32.c), which Python does not expose.
"""

from __future__ import annotations

_POLYNOMIAL = 0xEDB88320  # reflected: bit 31 is the coefficient of x^0
_ONE = 0x8000_0000
_X8 = 0x0080_0000


def crc32_combine(first: int, second: int, second_size: int) -> int:
    """Compute ``zlib.crc32(a + b)`` from ``zlib.crc32(a)``, ``zlib.crc32(b)`` and ``len(b)``."""
    return _times(first, _power(_X8, second_size)) ^ second


def _times(a: int, b: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


def _power(base: int, exponent: int) -> int:
    result = _ONE
    while exponent:
        if exponent & 1:
            result = _times(result, base)
        base = _times(base, base)
        exponent >>= 1
    return result
