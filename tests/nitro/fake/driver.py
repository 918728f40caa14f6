"""The kernel's side: the CPU pool, the hugepages, the CIDs, and the one heartbeat port.

A daemon holds what it was given for as long as it has its record locked; the kernel drops the lock however
the daemon ends, as the real driver takes back what a closed descriptor held.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL
from typing import IO

from tests.nitro.fake.failure import Failure, os_error
from tests.nitro.fake.place import Place

# Largest first: the sizes that nitro-cli tries.
PAGE_SIZES_MIB = (16384, 2048, 1024, 512, 256, 32, 16, 8, 2)
MIN_MEMORY_MIB = 64
FIRST_CID = 16
_RECORD_BYTES = 1024
_MAX_CID = 2**32 - 2
_NOTHING = '{"cid": 0, "cpus": [], "pages": []}'  # locked, and about to be written
_IOCTL = "src/enclave_proc/resource_manager.rs:858"
# linux/nitro_enclaves.h; nitro-cli has a sentence for each (resource_manager.rs), others are numbers to it.
CPU_TAKEN, CPU_NOT_IN_POOL = 256, 257
DIFFERENT_NODE = 264
TOO_SMALL, NO_CPUS_ADDED, HALF_CORES, NOT_IN_INIT_STATE, NO_CPUS = 268, 267, 269, 270, 272
BAD_FLAGS, BAD_CID = 274, 275
REASONS = {
    CPU_TAKEN: "The provided vCPU is already used",
    CPU_NOT_IN_POOL: "The provided vCPU is not available in the CPU pool",
    DIFFERENT_NODE: "The memory region's pages and the CPUs belong to different NUMA nodes",
    NO_CPUS_ADDED: "The enclave cannot start because no vCPUs have been added",
    TOO_SMALL: "The enclave's memory size is lower than the minimum supported",
    HALF_CORES: "The enclave cannot start because full CPU cores have not been set",
    NO_CPUS: "The enclave cannot be created because no CPUs are available in the pool",
    BAD_CID: "The provided enclave CID is invalid, being a well-known CID or the parent VM CID",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one enclave has."""

    cid: int
    cpus: tuple[int, ...]
    pages: tuple[int, ...]

    @property
    def memory_mib(self) -> int:
        """All its pages."""
        return sum(self.pages)


class IoctlError(Failure):
    """A refusal of the driver: always E29, its reason only in the backtrace."""

    def __init__(self, number: int, *doing: str) -> None:
        super().__init__("E29", REASONS.get(number, f"An error has occurred: {number} (rc: -1)"), _IOCTL)
        self.sub(*doing)
        self.number = number


class Slot:
    """One enclave's record: locked by its daemon from the creation of the VM to the daemon's end."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.slot_hex = f"{secrets.randbits(60) | 1 << 56:x}"
        place.held.mkdir(exist_ok=True)
        self._path = place.held / f"{self.slot_hex}.json"
        self._file: IO[str] = self._path.open("x")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.hold(Held(cid=0, cpus=(), pages=()))

    def hold(self, held: Held) -> None:
        """The driver gives it these."""
        value = {"pid": os.getpid(), "cid": held.cid, "cpus": held.cpus, "pages": held.pages}
        # One write of one length over what was there: a reader sees the old record or the new one.
        os.pwrite(self._file.fileno(), json.dumps(value).ljust(_RECORD_BYTES).encode(), 0)

    def free(self) -> None:
        """The driver has everything back."""
        self._path.unlink(missing_ok=True)
        self._file.close()


@contextmanager
def one_at_a_time(place: Place) -> Iterator[None]:
    """The driver's own lock."""
    with (place.home / ".driver").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def holders(place: Place) -> list[Held]:
    """What the enclaves that live have."""
    found = []
    for path in place.held.glob("*.json"):
        try:
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    value = json.loads(file.read() or _NOTHING)
                    cpus, pages = tuple(value["cpus"]), tuple(value["pages"])
                    found.append(Held(cid=value["cid"], cpus=cpus, pages=pages))
        except FileNotFoundError:
            continue
    return found


def create_vm(place: Place) -> Slot:
    """NE_CREATE_VM.

    Raises:
        Failure: no device, no permission (E19), or every CPU of the pool is taken (E29).
    """
    settings = place.settings
    if settings.device != "ok":
        missing = FileNotFoundError(2, "No such file or directory")
        denied = PermissionError(13, "Permission denied")
        error = os_error(missing if settings.device == "missing" else denied)
        at = "src/enclave_proc/resource_manager.rs:498"
        raise Failure("E19", f"Failed to open device file: {error}", at, info=("/dev/nitro_enclaves", "Open"))
    with one_at_a_time(place):
        taken = {cpu for held in holders(place) for cpu in held.cpus}
        if not set(settings.pool) - taken:
            raise IoctlError(NO_CPUS, "Create VM ioctl failed")
        return Slot(place)


def allocate_pages(place: Place, requested_mib: int) -> tuple[int, ...]:
    """The hugepages for that much memory or more: large ones first, then whatever wastes least.

    Raises:
        Failure: E27, the free ones do not suffice.
    """
    free = dict(place.settings.pages)
    for held in holders(place):
        for size in held.pages:
            free[size] = free.get(size, 0) - 1
    got: list[int] = []
    needed = requested_mib
    for size in PAGE_SIZES_MIB:
        while needed >= size and free.get(size, 0) > 0:
            free[size] -= 1
            got.append(size)
            needed -= size
    for size in reversed(PAGE_SIZES_MIB):
        while needed > 0 and free.get(size, 0) > 0:
            free[size] -= 1
            got.append(size)
            needed -= size
    if needed > 0:
        raise Failure(
            "E27",
            f"Failed to allocate entire memory ({needed} MB remained)",
            "src/enclave_proc/resource_manager.rs:395",
            info=("memory", str(requested_mib)),
        ).sub("Failed to allocate enclave memory", "Memory initialization issue")
    kept, needed = [], requested_mib
    for size in sorted(got, reverse=True):
        if needed <= 0:
            break
        kept.append(size)
        needed -= size
    return tuple(kept)


def add_cpus(place: Place, wanted: Sequence[int] | int) -> tuple[int, ...]:
    """NE_ADD_VCPU for each: the named ones, or so many of the pool's, core by core.

    Raises:
        Failure: E29, one is taken, or there are not so many.
    """
    taken = {cpu for held in holders(place) for cpu in held.cpus}
    if isinstance(wanted, int):
        free = [cpu for core in place.settings.cores if not taken & set(core) for cpu in core]
        if wanted > len(free):
            raise IoctlError(NO_CPUS, "Add vCPU ioctl failed", "vCPUs initialization issue")
        return tuple(free[:wanted])
    for cpu in wanted:
        if cpu in taken:
            doing = ("Add vCPU ioctl failed", f"Failed to add CPU with ID {cpu}")
            raise IoctlError(CPU_TAKEN, *doing, "vCPUs initialization issue")
    return tuple(wanted)


@contextmanager
def heartbeat_port(place: Place) -> Iterator[None]:
    """vsock port 9000 of the parent, which one launch at a time can have.

    Raises:
        Failure: E36, somebody has it.
    """
    busy = Failure(
        "E36",
        "Enclave boot heartbeat vsock connection - vsock bind error",
        "src/enclave_proc/resource_manager.rs:543",
    )
    if place.settings.port_9000_taken:
        raise busy
    with (place.home / ".port-9000").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        yield


def start_enclave(place: Place, cid: int, cpus: Sequence[int], memory_mib: int) -> int:
    """NE_START_ENCLAVE: the CID that it has.

    Raises:
        Failure: E29 with the driver's reason.
    """
    doing = ("Start enclave ioctl failed", "Enclave start issue")
    if cid != 0 and (cid <= 3 or cid > _MAX_CID):
        raise IoctlError(BAD_CID, *doing)
    if not cpus:
        raise IoctlError(NO_CPUS_ADDED, *doing)
    if memory_mib < MIN_MEMORY_MIB:
        raise IoctlError(TOO_SMALL, *doing)
    if any(set(core) & set(cpus) and not set(core) <= set(cpus) for core in place.settings.cores):
        raise IoctlError(HALF_CORES, *doing)
    used = {held.cid for held in holders(place)} - {0}  # which have not started yet
    if cid in used:
        # The hypervisor's own answer: the driver has no word for it.
        raise IoctlError(EINVAL, *doing)
    return cid or next(free for free in range(FIRST_CID, _MAX_CID) if free not in used)


def refusal(place: Place) -> IoctlError | None:
    """The fault that the host was told to have; ``driver_error_times`` launches have it."""
    settings = place.settings
    if settings.driver_error is None:
        return None
    count = place.home / ".refused"
    with one_at_a_time(place):
        before = int(count.read_text()) if count.exists() else 0
        if settings.driver_error_times is not None and before >= settings.driver_error_times:
            return None
        count.write_text(str(before + 1))
    doing = ("Set user memory region ioctl failed", "Memory initialization issue")
    return IoctlError(settings.driver_error, *doing)
