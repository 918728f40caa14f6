"""The messages of vhost-user that QEMU sends to a device, as values.

https://www.qemu.org/docs/master/interop/vhost-user.html. QEMU is ours, but a guest that breaks out of it is
not: the parser is total here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct, error, unpack_from
from typing import NamedTuple

from enclavectl.backends.qemu.vsock.errors import VirtioError
from enclavectl.backends.qemu.vsock.guest_memory import MAX_REGIONS, Region

HEADER = Struct("<III")
# The largest is SET_MEM_TABLE with eight regions, 264 bytes.
MAX_BODY = 1024
MAX_FDS = MAX_REGIONS
_VERSION, _VERSION_MASK, _REPLY = 1, 3, 4
_U64 = Struct("<Q")
_STATE = Struct("<II")
_ADDRESSES = Struct("<IIQQQQ")
_REGION = Struct("<QQQQ")
_CONFIG = Struct("<III")

F_VERSION_1 = 1 << 32
F_PROTOCOL_FEATURES = 1 << 30
PROTOCOL_MQ = 1 << 0
PROTOCOL_CONFIG = 1 << 9


class Request(IntEnum):
    """The requests that are answered; all others are refused."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    GET_CONFIG = 24


def parse_header(data: bytes) -> tuple[Request, int]:
    """Return the request and the length of its body.

    Raises:
        VirtioError: another version, an unknown request, or a body that is too long.
    """
    number, flags, size = HEADER.unpack(data)
    if flags & _VERSION_MASK != _VERSION or flags & _REPLY:
        raise VirtioError(f"expected a request of vhost-user 1, found flags {flags:#x}")
    if size > MAX_BODY:
        raise VirtioError(f"expected a vhost-user message of at most {MAX_BODY} bytes, found {size}")
    try:
        return Request(number), size
    except ValueError:
        raise VirtioError(f"expected a vhost-user request that a vsock device has, found {number}") from None


def reply(request: Request, body: bytes) -> bytes:
    """Return the answer to a request."""
    return HEADER.pack(request, _VERSION | _REPLY, len(body)) + body


def reply_u64(request: Request, value: int) -> bytes:
    """Return the answer of one number."""
    return reply(request, _U64.pack(value))


def parse_u64(body: bytes) -> int:
    """Read a body of one number."""
    return int(_unpack(_U64, body)[0])


def parse_state(body: bytes) -> tuple[int, int]:
    """Read a queue's index and a number."""
    index, number = _unpack(_STATE, body)
    return int(index), int(number)


def pack_state(index: int, number: int) -> bytes:
    """Write a queue's index and a number."""
    return _STATE.pack(index, number)


class RingAddresses(NamedTuple):
    """Where the parts of a queue are in QEMU's memory."""

    ring: int
    descriptors: int
    used: int
    available: int


def parse_addresses(body: bytes) -> RingAddresses:
    """Read SET_VRING_ADDR."""
    index, _flags, descriptors, used, available, _log = _unpack(_ADDRESSES, body)
    return RingAddresses(int(index), int(descriptors), int(used), int(available))


def parse_regions(body: bytes) -> Sequence[Region]:
    """Read SET_MEM_TABLE."""
    if len(body) < 8:
        raise VirtioError(f"expected a table of memory regions, found {len(body)} bytes")
    (count, _padding) = unpack_from("<II", body)
    if not 1 <= count <= MAX_REGIONS or len(body) != 8 + count * _REGION.size:
        raise VirtioError(f"expected 1 to {MAX_REGIONS} memory regions, found {count} in {len(body)} bytes")
    return [Region(*_REGION.unpack_from(body, 8 + number * _REGION.size)) for number in range(count)]


def answer_config(body: bytes, config: bytes) -> bytes:
    """Answer GET_CONFIG from the device's whole configuration; zeros stand for what is beyond it."""
    if len(body) < _CONFIG.size:
        raise VirtioError(f"expected a request for the configuration, found {len(body)} bytes")
    offset, size, _flags = _CONFIG.unpack_from(body)
    if size != len(body) - _CONFIG.size:
        raise VirtioError(f"expected room for {size} bytes of configuration, found another length")
    found = config[offset : offset + size] if offset < len(config) else b""
    return body[: _CONFIG.size] + found.ljust(size, b"\0")


def _unpack(form: Struct, body: bytes) -> tuple[int, ...]:
    try:
        return form.unpack(body)
    except error:
        raise VirtioError(f"expected a vhost-user body of {form.size} bytes, found {len(body)}") from None
