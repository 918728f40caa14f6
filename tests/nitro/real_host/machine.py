"""One enclave's virtual machine as the driver sees it: from NE_CREATE_VM until its descriptor is closed."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from errno import EINVAL, ENOMEM
from pathlib import Path
from typing import Protocol

from enclavectl.eif.format import HEADER_SIZE, SECTION_HEADER_SIZE
from tests.nitro.fake import driver
from tests.nitro.fake.driver import Held, IoctlError, Slot
from tests.nitro.fake.launch import module_id
from tests.nitro.fake.place import Place
from tests.nitro.fake.sysfs import show

# Where in an enclave's memory its image begins (NE_IMAGE_LOAD_OFFSET).
IMAGE_OFFSET = 8 << 20
_MIB = 1 << 20
_MAX_CPUS = 128
_BAD_REGION_SIZE, _BAD_REGION_ADDRESS, _NO_REGIONS = 259, 260, 266
_DEBUG = 1
_POLL_S = 0.02
# Of enclavectl.eif.format: the count of sections, their offsets and their sizes.
_SECTIONS = struct.Struct(">26xH32Q32Q8x")


class Hypervisor(Protocol):
    """What runs inside: it ends with ``kill``, or by itself, which ``end`` tells as a readable descriptor."""

    end: int

    def kill(self) -> None:
        """It is gone when this returns."""

    def connect_to(self, port: int) -> socket.socket:
        """A connection to a port inside, or OSError."""


# (the machine, its image, whether its console is open) to what runs inside.
Start = Callable[["Machine", Path, bool], Hypervisor]


class Machine:
    """The driver's record of one enclave. Everything it holds is back after ``release``."""

    def __init__(self, place: Place, start: Start) -> None:
        """Raises ``IoctlError`` where the pool has no free CPU."""
        self.place = place
        self.slot: Slot = driver.create_vm(place)
        self.guest: Hypervisor | None = None
        self.enclave_end, self._host_end = os.pipe()
        self._start_guest = start
        self._pages: list[int] = []
        self._regions: list[tuple[int, int]] = []
        self._cpus: list[int] = []
        self._memory: int | None = None
        self._cid = 0
        self._is_released = False

    @property
    def cid(self) -> int:
        """Its address; 0 before it has one."""
        return self._cid

    @property
    def is_open(self) -> bool:
        """Whether its guest has not ended, as far as its owner was told."""
        return self._host_end >= 0

    @property
    def cpus(self) -> list[int]:
        """Its CPUs."""
        return self._cpus

    @property
    def memory_mib(self) -> int:
        """Its memory."""
        return sum(size for size, _ in self._regions) // _MIB

    @property
    def folder(self) -> Path:
        """Where it may put what it needs."""
        return self.place.held / f"{self.slot.slot_hex}.guest"

    @property
    def module_id(self) -> str:
        """Its name in attestation documents."""
        return module_id(self.place.settings.instance, self.slot)

    def add_page(self, size: int) -> None:
        """Give it a huge page.

        Raises:
            OSError: ENOMEM, none of that size is free.
        """
        size_mib = size // _MIB
        with driver.one_at_a_time(self.place):
            used = [page for held in driver.holders(self.place) for page in held.pages]
            if self.place.settings.pages.get(size_mib, 0) <= used.count(size_mib):
                raise OSError(ENOMEM, os.strerror(ENOMEM))
            self._pages.append(size_mib)
            self._hold()

    def remove_page(self, size: int) -> None:
        """Take a huge page back."""
        self._pages.remove(size // _MIB)
        self._hold()

    def add_region(self, flags: int, size: int, offset: int, memory: int | None) -> None:
        """NE_SET_USER_MEMORY_REGION. ``offset`` is in the file ``memory``, which comes with the first one."""
        self._memory = memory if memory is not None else self._memory
        refused = driver.refusal(self.place) if not self._regions else None
        for wrong, number in (
            (self._cid != 0, driver.NOT_IN_INIT_STATE),
            (flags != 0, driver.BAD_FLAGS),
            (size == 0 or size % (2 * _MIB) != 0, _BAD_REGION_SIZE),
            (offset >= 1 << 62, _BAD_REGION_ADDRESS),
            (refused is not None, refused.number if refused else 0),
        ):
            if wrong:
                raise IoctlError(number)
        self._regions.append((size, offset))

    def add_cpu(self, wanted: int) -> int:
        """NE_ADD_VCPU: the CPU, or for 0 the next of the pool, core by core."""
        if wanted > _MAX_CPUS:
            raise IoctlError(271)
        cores = self.place.settings.cores
        with driver.one_at_a_time(self.place):
            taken = {cpu for held in driver.holders(self.place) for cpu in held.cpus}
            if wanted:
                if wanted in taken:
                    raise IoctlError(driver.CPU_TAKEN)
                if wanted not in self.place.settings.pool:
                    raise IoctlError(driver.CPU_NOT_IN_POOL)
            else:
                begun = [core for core in cores if set(core) & set(self._cpus)]
                free = [core for core in cores if not set(core) & taken]
                wanted = next((cpu for core in begun + free for cpu in core if cpu not in taken), 0)
                if not wanted:
                    raise IoctlError(driver.NO_CPUS)
            self._cpus.append(wanted)
            self._hold()
        return wanted

    def start(self, flags: int, cid: int) -> int:
        """NE_START_ENCLAVE: its CID."""
        if flags > _DEBUG:
            raise IoctlError(driver.BAD_FLAGS)
        if self._cid:
            raise IoctlError(driver.NOT_IN_INIT_STATE)
        if not self._regions:
            raise IoctlError(_NO_REGIONS)
        with driver.one_at_a_time(self.place):
            self._cid = driver.start_enclave(self.place, cid, self._cpus, self.memory_mib)
            self._hold()
        self.folder.mkdir()
        image = self.folder / "image.eif"
        self._copy_image(image)
        self.guest = self._start_guest(self, image, bool(flags & _DEBUG))
        if (after_s := self.place.settings.dies_after_s) is not None:
            timer = threading.Timer(after_s, self.guest.kill)
            timer.daemon = True
            timer.start()
        return self._cid

    def await_boot(self) -> bool:
        """Wait for as long as the host's boots take; False where its enclaves never report."""
        time.sleep(self.place.settings.boot_s)
        while self.place.held_up("boot").exists() and not self._is_released:
            time.sleep(_POLL_S)
        return self.place.settings.heartbeat and not self._is_released

    def hang_up(self) -> None:
        """The guest has ended: the enclave's descriptor says so. Its resources stay until it is closed."""
        if self._host_end >= 0:
            os.close(self._host_end)
            self._host_end = -1

    def release(self) -> tuple[int, int]:
        """The descriptor is closed: nothing of it is held when this returns."""
        if self._is_released:
            return 0, 0
        self._is_released = True
        if self.guest is not None:
            self.guest.kill()
            os.close(self.guest.end)
        self.hang_up()
        if self._memory is not None:
            os.close(self._memory)
            self._memory = None
        with driver.one_at_a_time(self.place):
            self.slot.free()
        show(self.place)
        return 0, 0

    def _hold(self) -> None:
        self.slot.hold(Held(cid=self._cid, cpus=tuple(self._cpus), pages=tuple(self._pages)))
        show(self.place)

    def _copy_image(self, path: Path) -> None:
        """Read the image out of the memory, where its header says how long it is."""
        header = self._read(IMAGE_OFFSET, _SECTIONS.size)
        if len(header) < _SECTIONS.size:
            raise OSError(EINVAL, os.strerror(EINVAL))
        count, *numbers = _SECTIONS.unpack(header)
        ends = [
            offset + size + SECTION_HEADER_SIZE
            for offset, size in zip(numbers[:32], numbers[32:], strict=True)
        ]
        end = max(ends[:count], default=HEADER_SIZE)
        with path.open("wb") as file:
            position = 0
            while position < end:
                data = self._read(IMAGE_OFFSET + position, min(4 * _MIB, end - position))
                if not data:
                    return
                file.write(data)
                position += len(data)

    def _read(self, position: int, size: int) -> bytes:
        """What is at an address of the enclave's memory, its regions laid one after the other."""
        assert self._memory is not None
        for region_size, offset in self._regions:
            if position < region_size:
                return os.pread(self._memory, min(size, region_size - position), offset + position)
            position -= region_size
        return b""
