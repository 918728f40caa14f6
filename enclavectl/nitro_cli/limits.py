"""What nitro-cli and the driver ask of an enclave's address, memory and boot, before they are asked."""

from __future__ import annotations

from enclavectl.errors import UsageError

# Taken: 0 hypervisor, 1 local, 2 host, 3 parent, 2**32 - 1 any (linux/vm_sockets.h, vsock(7)).
FIRST_CID = 4
LAST_CID = 2**32 - 2
PARENT_CID = 3
# The driver's least: ne_misc_dev.c, NE_MIN_ENCLAVE_MEM_SIZE_MB.
MIN_MEMORY_MIB = 64
# ENCLAVE_MEMORY_EIF_SIZE_RATIO, resource_manager.rs: the image is there three times while it boots.
MEMORY_PER_IMAGE = 4


def check_cid(cid: int) -> None:
    """Return if an enclave may have this context id.

    Raises:
        UsageError: it is reserved or no context id.
    """
    if not FIRST_CID <= cid <= LAST_CID:
        taken = {0: "the hypervisor", 1: "the machine itself", 2: "the host", PARENT_CID: "the parent"}
        whose = taken.get(cid, "nobody: too large")
        raise UsageError(
            f"CID: expected {FIRST_CID} to {LAST_CID}, found {cid} (reserved for {whose})",
            hint="leave --cid out and the driver chooses one",
        )


def minimum_memory_mib(image_bytes: int) -> int:
    """Return the least memory, in MiB, with which nitro-cli starts an image of this size."""
    kib = -(-image_bytes // 1024)
    return max(MIN_MEMORY_MIB, MEMORY_PER_IMAGE * -(-kib // 1024))


def boot_bound_s(image_bytes: int, memory_mib: int) -> int:
    """How long nitro-cli waits for the enclave's first sign of life: 90 s per 6 GiB and per 100 GiB.

    resource_manager.rs, ``poll_timeout``; at least 180 s, and nothing can change it.
    """
    return 90 * (1 + max(image_bytes - 1, 0) // (6 << 30)) + 90 * (1 + max(memory_mib - 1, 0) // (100 << 10))
