"""A split virtqueue from the device's side (virtio 1.3, section 2.7). The guest writes all that is read."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from enclavectl.backends.qemu.vsock.errors import VirtioError
from enclavectl.backends.qemu.vsock.guest_memory import GuestMemory

# QEMU gives vsock queues of 128; Linux's queues have at most 1024 (VIRTQUEUE_MAX_SIZE).
MAX_SIZE = 1024
# Linux sends packets of at most 64 KiB (VIRTIO_VSOCK_MAX_PKT_BUF_SIZE), in buffers of pages.
MAX_CHAIN_BYTES = 256 * 1024
_DESCRIPTOR = Struct("<QIHH")
_USED = Struct("<II")
_U16 = Struct("<H")
_NEXT, _WRITE = 1, 2


class Layout(NamedTuple):
    """A queue's size and the addresses of its three parts in QEMU's memory; ``base`` is the next index."""

    size: int
    descriptors: int
    available: int
    used: int
    base: int


class Chain(NamedTuple):
    """A buffer of the guest's: memory that it wrote, then memory that it wants written."""

    head: int
    readable: list[memoryview]
    writable: list[memoryview]


class Virtqueue:
    """One queue. Look at the next buffer with ``peek``; give it back with ``put``."""

    def __init__(self, memory: GuestMemory, layout: Layout) -> None:
        """Find the three parts.

        Raises:
            VirtioError: the size is no power of two of at most ``MAX_SIZE``, or a part is outside the memory.
        """
        size = layout.size
        if not 1 <= size <= MAX_SIZE or size & (size - 1):
            raise VirtioError(f"expected a queue of 1 to {MAX_SIZE} entries, a power of two, found {size}")
        self._memory = memory
        self._size = size
        self._descriptors = memory.ring(layout.descriptors, 16 * size)
        self._available = memory.ring(layout.available, 4 + 2 * size)
        self._used = memory.ring(layout.used, 4 + 8 * size)
        self._taken = layout.base & 0xFFFF
        self._put = _U16.unpack_from(self._used, 2)[0]

    @property
    def taken(self) -> int:
        """The index of the next buffer, for VHOST_USER_GET_VRING_BASE."""
        return self._taken

    def peek(self) -> Chain | None:
        """Return the next buffer without taking it; None while the guest offers none.

        Raises:
            VirtioError: an index, a descriptor or a chain of them breaks the rules.
        """
        offered = (_U16.unpack_from(self._available, 2)[0] - self._taken) & 0xFFFF
        if offered == 0:
            return None
        if offered > self._size:
            raise VirtioError(f"expected at most {self._size} buffers in a queue, found {offered}")
        head = _U16.unpack_from(self._available, 4 + 2 * (self._taken % self._size))[0]
        return self._chain(head)

    def put(self, chain: Chain, written: int) -> None:
        """Take the buffer that ``peek`` returned, and give it back with ``written`` bytes in it."""
        self._taken = (self._taken + 1) & 0xFFFF
        _USED.pack_into(self._used, 4 + 8 * (self._put % self._size), chain.head, written)
        self._put = (self._put + 1) & 0xFFFF
        # Last, since the guest reads the entry once it sees the index; x86 keeps the order of stores.
        _U16.pack_into(self._used, 2, self._put)

    def _chain(self, head: int) -> Chain:
        readable: list[memoryview] = []
        writable: list[memoryview] = []
        total = 0
        index = head
        for _ in range(self._size):
            if index >= self._size:
                raise VirtioError(f"expected a descriptor below {self._size}, found {index}")
            address, size, flags, following = _DESCRIPTOR.unpack_from(self._descriptors, 16 * index)
            if flags & ~(_NEXT | _WRITE):
                raise VirtioError(f"descriptor {index}: expected NEXT and WRITE alone, found {flags:#x}")
            if not flags & _WRITE and writable:
                raise VirtioError(f"descriptor {index}: expected what is read before what is written")
            total += size
            if total > MAX_CHAIN_BYTES:
                raise VirtioError(f"descriptor {index}: expected a buffer of {MAX_CHAIN_BYTES} bytes at most")
            if size:
                (writable if flags & _WRITE else readable).extend(self._memory.pieces(address, size))
            if not flags & _NEXT:
                return Chain(head, readable, writable)
            index = following
        raise VirtioError(f"descriptor {head}: expected a chain of at most {self._size}, found a longer one")
