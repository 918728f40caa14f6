"""JPEG files that lost a part. libjpeg invents the pixels in its place without a word.

Two things show: a scan of fewer bits than its pixels take, and zeros where a file system, a card or a broken
download left a hole. JPEG has no checksum: other damage is not seen, here or by any decoder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# ITU-T T.81, table B.1. In a scan, 0xff 0x00 is a byte of data, and 0xd0 to 0xd7 separate intervals.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_END, _SCAN, _TABLES, _SEQUENTIAL, _PROGRESSIVE = 0xD9, 0xDA, 0xC4, {0xC0, 0xC1}, 0xC2
# A disk's smallest sector. Real scans have 12 zero bytes in a row, except where zeros mean a flat area.
_HOLE = bytes(512)
# Of a scan that no marker ends, where a writer would have put one.
_LOST_END = bytes(64)


@dataclass(frozen=True, slots=True)
class _Frame:
    width: int
    height: int
    is_progressive: bool
    sampling: dict[int, tuple[int, int]]  # of each component: blocks of an MCU across and down

    def blocks(self, components: bytes) -> int:
        """Count the blocks of 8 x 8 in a scan of these components (T.81, A.2)."""
        wide = max(across for across, _ in self.sampling.values())
        high = max(down for _, down in self.sampling.values())
        if len(components) > 1:
            units = -(-self.width // (8 * wide)) * -(-self.height // (8 * high))
            return units * sum(across * down for across, down in map(self.sampling.__getitem__, components))
        across, down = self.sampling[components[0]]
        columns, rows = -(-self.width * across // wide), -(-self.height * down // high)
        return -(-columns // 8) * -(-rows // 8)


def holds_its_pixels(data: bytes) -> bool:
    """Return False if a scan has a hole, or fewer bits than its blocks take. For a file that was decoded."""
    frame: _Frame | None = None
    is_flat: dict[int, bool] = {}
    position = 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        if marker in _STANDALONE or marker in {0x00, 0xFF}:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == _END:
            break
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : end]
        if marker == _TABLES:
            is_flat |= _flat_tables(body)
        elif marker in _SEQUENTIAL or marker == _PROGRESSIVE:
            frame = _frame(body, marker == _PROGRESSIVE)
        elif marker == _SCAN and frame is not None:
            following = _AFTER_SCAN.search(data, end)
            position = following.start() if following else len(data)
            if following is None and data.endswith(_LOST_END):
                return False
            may_be_flat = frame.is_progressive or all(is_flat.values())
            if not may_be_flat and data.find(_HOLE, end, position) >= 0:
                return False
            if 8 * (position - end) < frame.blocks(body[1 : 1 + 2 * body[0] : 2]) * _bits(body, frame):
                return False
            continue
        position = end
    return True


def _flat_tables(body: bytes) -> dict[int, bool]:
    """Return for each Huffman table whether zeros in a scan mean "no change" (DC) or "no more" (AC)."""
    found, at = {}, 0
    while at + 18 <= len(body):  # T.81, B.2.4.2: class and number, 16 counts, the symbols by length of code
        found[body[at]] = body[at + 17] == 0
        at += 17 + sum(body[at + 1 : at + 17])
    return found


def _frame(body: bytes, is_progressive: bool) -> _Frame:
    sampling = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, 6 + 3 * body[5], 3)}
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return _Frame(width, height, is_progressive, sampling)


def _bits(body: bytes, frame: _Frame) -> int:
    """Return how many bits a block takes at least: a Huffman code for its DC, one for the end of its AC."""
    if not frame.is_progressive:
        return 2
    start, approximation = body[-3], body[-1]
    # Only the first scan of the DC has a code for each block. Later ones have runs.
    return 1 if start == 0 and approximation >> 4 == 0 else 0
