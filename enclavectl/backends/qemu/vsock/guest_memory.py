"""The guest's memory as QEMU shares it: bounded access by the guest's addresses, and by QEMU's own."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from typing import NamedTuple

from enclavectl.backends.qemu.vsock.errors import VirtioError

# QEMU's bound without ADD_MEM_REG (VHOST_MEMORY_BASELINE_NREGIONS).
MAX_REGIONS = 8
_MAX_ADDRESS = 2**64
# linux/fcntl.h; a sealed file cannot be cut under our mapping, which would end this process with SIGBUS.
_F_ADD_SEALS, _F_GET_SEALS, _F_SEAL_SHRINK = 1033, 1034, 0x0002


class Region(NamedTuple):
    """A piece of the guest's memory, as VHOST_USER_SET_MEM_TABLE describes it."""

    guest_address: int
    size: int
    user_address: int
    offset: int


class _Mapped(NamedTuple):
    region: Region
    view: memoryview


class GuestMemory:
    """Regions that were mapped; every access is checked against them."""

    def __init__(self, mapped: Sequence[_Mapped], maps: Sequence[mmap.mmap] = ()) -> None:
        self._mapped = tuple(mapped)
        self._maps = tuple(maps)

    @classmethod
    def over(cls, regions: Sequence[tuple[Region, bytearray]]) -> GuestMemory:
        """Make a memory of this process's own bytes, for tests."""
        return cls([_Mapped(region, memoryview(data)) for region, data in regions])

    @classmethod
    def map(cls, regions: Sequence[Region], fds: Sequence[int]) -> GuestMemory:
        """Map the regions. The descriptors stay the caller's.

        Raises:
            VirtioError: they do not fit the files, or cannot be mapped.
        """
        if len(regions) != len(fds) or not 1 <= len(regions) <= MAX_REGIONS:
            raise VirtioError(
                f"expected 1 to {MAX_REGIONS} regions of memory with one file each, found {len(regions)} "
                f"with {len(fds)}"
            )
        mapped, maps = [], []
        for region, fd in zip(regions, fds, strict=True):
            _check_region(region, fd)
            # The mapping begins at the file's beginning, since an offset need not be on a page.
            try:
                area = mmap.mmap(fd, region.offset + region.size)
            except (OSError, ValueError, OverflowError) as exc:
                raise VirtioError(f"the guest's memory cannot be mapped ({exc})") from exc
            maps.append(area)
            view = memoryview(area)[region.offset : region.offset + region.size]
            mapped.append(_Mapped(region, view))
        return cls(mapped, maps)

    def pieces(self, address: int, size: int) -> list[memoryview]:
        """Return the memory at a guest's address; it may lie in several regions.

        Raises:
            VirtioError: a part of it is outside of the guest's memory.
        """
        found = []
        while True:
            for region, view in self._mapped:
                start = address - region.guest_address
                if 0 <= start < region.size:
                    part = view[start : start + size]
                    break
            else:
                raise VirtioError(f"expected an address in the guest's memory, found {address:#x}")
            found.append(part)
            size -= len(part)
            address += len(part)
            if size <= 0:
                return found

    def ring(self, address: int, size: int) -> memoryview:
        """Return the memory at one of QEMU's own addresses, which is where rings are said to be.

        Raises:
            VirtioError: it is not in one region.
        """
        for region, view in self._mapped:
            start = address - region.user_address
            if start >= 0 and start + size <= region.size:
                return view[start : start + size]
        raise VirtioError(f"expected a ring in the guest's memory, found one at {address:#x}")


def _check_region(region: Region, fd: int) -> None:
    for end in (region.guest_address + region.size, region.user_address + region.size):
        if region.size < 1 or end > _MAX_ADDRESS:
            raise VirtioError(f"expected a region of memory below 2**64, found {region}")
    try:
        if not fcntl.fcntl(fd, _F_GET_SEALS) & _F_SEAL_SHRINK:
            fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SHRINK)
        size = os.fstat(fd).st_size
    except OSError as exc:
        raise VirtioError(f"expected memory in a file that cannot shrink ({exc.strerror})") from exc
    if region.offset + region.size > size:
        raise VirtioError(f"expected a region within its file of {size} bytes, found {region}")
