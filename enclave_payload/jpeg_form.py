"""JPEG files that hold fewer bits than their pixels take. libjpeg invents the rest, in gray, without a word.

JPEG has no checksum: damage that leaves enough bits is not seen, here or by any decoder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# ITU-T T.81, table B.1. In a scan, 0xff 0x00 is a byte of data, and 0xd0 to 0xd7 separate intervals.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_END, _SCAN, _SEQUENTIAL, _PROGRESSIVE = 0xD9, 0xDA, {0xC0, 0xC1}, 0xC2


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
    """Return False if a scan has fewer bits than its blocks take at least. For a file that was decoded."""
    frame: _Frame | None = None
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
        if marker in _SEQUENTIAL or marker == _PROGRESSIVE:
            frame = _frame(body, marker == _PROGRESSIVE)
        elif marker == _SCAN and frame is not None:
            following = _AFTER_SCAN.search(data, end)
            position = following.start() if following else len(data)
            if 8 * (position - end) < frame.blocks(body[1 : 1 + 2 * body[0] : 2]) * _bits(body, frame):
                return False
            continue
        position = end
    return True


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
