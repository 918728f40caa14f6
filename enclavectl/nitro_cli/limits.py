"""The rules of nitro-cli and the driver for an enclave's CID, memory and boot, checked before a launch."""

from __future__ import annotations

from enclavectl.errors import UsageError

# Reserved CIDs: 0 hypervisor, 1 local, 2 host, 3 parent, 2**32 - 1 any (linux/vm_sockets.h, vsock(7)).
FIRST_CID = 4
LAST_CID = 2**32 - 2
PARENT_CID = 3
# The driver's minimum: ne_misc_dev.c, NE_MIN_ENCLAVE_MEM_SIZE_MB.
MIN_MEMORY_MIB = 64
# ENCLAVE_MEMORY_EIF_SIZE_RATIO, resource_manager.rs: a booting enclave holds its image three times.
MEMORY_PER_IMAGE = 4
# A daemon hashes its image on one core, with SHA-384: this is what an idle host of today does at least.
_HASHED_BYTES_PER_S = 200_000_000


def check_cid(cid: int) -> None:
    """Check that an enclave may have this CID.

    Raises:
        UsageError: it is reserved or out of range.
    """
    if not FIRST_CID <= cid <= LAST_CID:
        taken = {0: "the hypervisor", 1: "the machine itself", 2: "the host", PARENT_CID: "the parent"}
        whose = taken.get(cid, "nobody: too large")
        raise UsageError(
            f"CID: expected {FIRST_CID} to {LAST_CID}, found {cid} (reserved for {whose})",
            hint="leave --cid out and the driver chooses one",
        )


def minimum_memory_mib(image_bytes: int) -> int:
    """Return the minimum memory, in MiB, with which nitro-cli starts an image of this size."""
    kib = -(-image_bytes // 1024)
    return max(MIN_MEMORY_MIB, MEMORY_PER_IMAGE * -(-kib // 1024))


def hash_time_s(image_bytes: int) -> int:
    """Return how long nitro-cli takes to hash an image on an idle host, in whole seconds.

    It is hashed from the launch on, beside the boot, and the enclave's daemon answers nobody until then.
    """
    return 1 + image_bytes // _HASHED_BYTES_PER_S


def boot_bound_s(image_bytes: int, memory_mib: int) -> int:
    """Return nitro-cli's timeout of a boot in seconds: 90 per 6 GiB of image and per 100 GiB of memory.

    It is ``poll_timeout`` in resource_manager.rs: at least 180 s, and not configurable.
    """
    return 90 * (1 + max(image_bytes - 1, 0) // (6 << 30)) + 90 * (1 + max(memory_mib - 1, 0) // (100 << 10))
