"""Mutations of byte strings, as a plain function of a source of randomness."""

from __future__ import annotations

from random import Random

# Numbers at which parsers of lengths and counts go wrong.
_EDGES = [bytes([value]) for value in (0, 1, 0x7F, 0x80, 0xFF)] + [
    value.to_bytes(width, order)
    for width in (2, 4, 8)
    for value in (0, 1, (1 << (8 * width - 1)) - 1, 1 << (8 * width - 1), (1 << (8 * width)) - 1)
    for order in ("big", "little")
]


def mutate(data: bytes, seeds: list[bytes], random: Random) -> bytes:
    """Apply one to four edits: flip a bit, set an edge value, cut, double or splice a piece."""
    found = bytearray(data)
    for _ in range(random.randint(1, 4)):
        start = random.randint(0, len(found))
        end = min(start + random.randint(0, 16), len(found))
        match random.randrange(6):
            case 0 if start < len(found):
                found[start] ^= 1 << random.randrange(8)
            case 1:
                edge = random.choice(_EDGES)
                found[start : start + len(edge)] = edge
            case 2:
                del found[start:end]
            case 3:
                found[start:start] = found[start:end]
            case 4:
                other = random.choice(seeds)
                place = random.randint(0, len(other))
                found[start:end] = other[place : place + random.randint(0, 64)]
            case _:
                found[start:start] = random.randbytes(random.randint(1, 8))
    return bytes(found)
