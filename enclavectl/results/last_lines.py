"""What the last line of each picture says, in 24 to 48 bytes a picture.

A dict of the same takes some 250: with a million pictures in a file that is the difference between 40 MB and
a quarter of a gigabyte.
"""

from __future__ import annotations

import os
from array import array
from hashlib import blake2b

# Slots to begin with; a power of two, as the mask demands.
_FIRST_SLOTS = 1024


class LastLines:
    """A table of hashes: the name of a picture, and what its last line says.

    Sixteen bytes a slot, in open addressing. The hashes have 64 bits and a key of this process: nobody can
    make two names collide, and chance does so once in 30 million files of a million lines.
    """

    def __init__(self) -> None:
        """Begin with no picture."""
        self._key = os.urandom(16)
        self._count = 0
        self._names = array("Q", bytes(8 * _FIRST_SLOTS))
        self._lines = array("Q", bytes(8 * _FIRST_SLOTS))

    def __len__(self) -> int:
        return self._count

    def put(self, name: bytes, line: bytes) -> None:
        """Take note of a picture's line, in place of an earlier one."""
        if 3 * self._count >= 2 * len(self._names):
            self._grow()
        self._put(self._hash(name), self._hash(line))

    def matches(self, name: bytes, line: bytes) -> bool:
        """Return whether the last line of a picture says the same as ``line``."""
        hashed = self._hash(name)
        slot = self._slot(hashed)
        return self._names[slot] == hashed and self._lines[slot] == self._hash(line)

    def _put(self, name: int, line: int) -> None:
        slot = self._slot(name)
        self._count += self._names[slot] == 0
        self._names[slot], self._lines[slot] = name, line

    def _slot(self, name: int) -> int:
        """Return the slot that has the name, or the free one where it belongs."""
        names, mask = self._names, len(self._names) - 1
        slot = name & mask
        while names[slot] not in (0, name):
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        old = zip(self._names, self._lines, strict=True)
        slots = 2 * len(self._names)
        self._names, self._lines = array("Q", bytes(8 * slots)), array("Q", bytes(8 * slots))
        self._count = 0
        for name, line in old:
            if name:
                self._put(name, line)

    def _hash(self, data: bytes) -> int:
        digest = blake2b(data, digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "little") or 1  # 0 marks a free slot
