"""The packets of virtio-vsock (virtio 1.3, section 5.10.6; linux/virtio_vsock.h)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple

from enclavectl.backends.qemu.vsock.errors import VirtioError

_HEADER = Struct("<QQIIIHHIII")
HEADER_BYTES = _HEADER.size
# Linux's VIRTIO_VSOCK_MAX_PKT_BUF_SIZE.
MAX_PAYLOAD = 64 * 1024
STREAM = 1
PARENT_CID = 3


class Op(IntEnum):
    """What a packet says."""

    REQUEST = 1
    RESPONSE = 2
    RST = 3
    SHUTDOWN = 4
    RW = 5
    CREDIT_UPDATE = 6
    CREDIT_REQUEST = 7


class Shut(IntFlag):
    """Which directions the sender of a SHUTDOWN is done with."""

    RECEIVE = 1
    SEND = 2


class Header(NamedTuple):
    """The fields of a packet's header. ``op`` may be none of ``Op``."""

    source_cid: int
    target_cid: int
    source_port: int
    target_port: int
    length: int
    kind: int
    op: int
    flags: int
    buf_alloc: int
    fwd_cnt: int

    def pack(self) -> bytes:
        """Return its bytes."""
        return _HEADER.pack(*self)


class Packet(NamedTuple):
    """A header and the bytes after it."""

    header: Header
    payload: bytes


def parse_packet(pieces: list[memoryview]) -> Packet:
    """Read the packet in the readable part of a buffer. All of it is copied, once.

    Raises:
        VirtioError: it is shorter than it says, or says that it is longer than packets are.
    """
    data = b"".join(pieces)
    if len(data) < HEADER_BYTES:
        raise VirtioError(f"expected a vsock packet of at least {HEADER_BYTES} bytes, found {len(data)}")
    header = Header(*_HEADER.unpack_from(data))
    if header.length > MAX_PAYLOAD:
        raise VirtioError(f"expected at most {MAX_PAYLOAD} bytes in a vsock packet, found {header.length}")
    if HEADER_BYTES + header.length > len(data):
        raise VirtioError(
            f"expected a vsock packet of {HEADER_BYTES + header.length} bytes, as it says, found {len(data)}"
        )
    return Packet(header, data[HEADER_BYTES : HEADER_BYTES + header.length])
