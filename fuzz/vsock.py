"""Whatever a guest and QEMU write, the device goes on or ends with one reason, and keeps no descriptor."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from tests.backends.qemu.guest import AVAILABLE, BYTES, FROM_GUEST, SIZE, Guest, packet

# One byte chooses: a packet, a request of QEMU's, a write into the guest's memory, or a kick.
_SEND, _ASK, _WRITE, _KICK = range(4)
_MAX_STEPS = 64

SEEDS: list[bytes] = [
    b"",
    bytes([_SEND, 44]) + packet(1),
    bytes([_SEND, 44]) + packet(1, to=9000) + bytes([_SEND, 45]) + packet(5, data=b"\xb7"),
    bytes([_SEND, 44]) + packet(4, changed={"flags": 3}),
    bytes([_ASK, 11]) + b"\x0b" + struct.pack("<II", 0, 0) + bytes([_ASK, 1, 1]),
    bytes([_ASK, 41, 9]) + struct.pack("<IIQQQQ", 0, 0, 1, 2, 3, 4),
    bytes([_ASK, 41, 5]) + struct.pack("<IIQQQQ", 1, 0, 0x100000, 1 << 20, 0x7F0000000000, 0),
    bytes([_WRITE, 18]) + struct.pack("<HQIHH", 0x1000, 0x120000, 44, 0, 0) + bytes([_KICK, 1, 1]),
    bytes([_WRITE, 4]) + struct.pack("<HH", 0x1000 + AVAILABLE + 2, 1) + bytes([_KICK, 1, 1]),
]


def one(data: bytes) -> None:
    before = _descriptors()
    with Guest() as guest:
        guest.boot()
        for _ in range(_MAX_STEPS):
            if len(data) < 2:
                break
            kind, size = data[0] % 4, data[1]
            part, data = data[2 : 2 + size], data[2 + size :]
            _take_step(guest, kind, part)
        guest.turn()
        assert len(guest.failures) <= 1, guest.failures
        assert guest.device.is_up or guest.failures or _can_stop(guest)
    assert _descriptors() == before


def _take_step(guest: Guest, kind: int, part: bytes) -> None:
    if guest.failures:
        return  # QEMU's end is closed
    if kind == _SEND:
        guest.send(part)
    elif kind == _ASK and part:
        guest.ask(part[0], part[1:], *([guest.fd] if part[0] == 5 else []))
    elif kind == _WRITE and len(part) > 2:
        guest.write(int.from_bytes(part[:2], "little") % (BYTES - 256), part[2:])
    elif kind == _KICK and part:
        os.eventfd_write(guest.kicks[part[0] % 2], 1)
        guest.offer(FROM_GUEST, head=part[0] % (2 * SIZE))
    guest.turn(2)


def _can_stop(guest: Guest) -> bool:
    """QEMU may stop a queue at any time, and start it again."""
    guest.start_queue(0)
    return True


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
