"""What an enclave needs, from nitro-cli's and the driver's own rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enclavectl.eif.scan import parse_layout
from enclavectl.files import open_regular
from enclavectl.host.memory import REGION_MIB

# https://github.com/aws/aws-nitro-enclaves-cli/blob/v1.4.2/src/enclave_proc/resource_manager.rs
EIF_RATIO = 4
# MIN_MEM_MIB: https://github.com/torvalds/linux/blob/v6.6/drivers/virt/nitro_enclaves/ne_misc_dev.c
DRIVER_MIN_MIB = 64
MAX_ENCLAVES = 4  # of one instance: https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave.html
_MIB = 1 << 20
_BOOT_STEP_S = 90
_BOOT_EIF = 6 << 30
_BOOT_MEMORY_MIB = 100 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EifFacts:
    """An image as far as its place in memory is concerned."""

    path: Path
    size: int
    arch: str

    def to_json(self) -> dict[str, object]:
        """The facts as JSON values."""
        return {"file": str(self.path), "size": self.size, "arch": self.arch}

    @property
    def min_memory_mib(self) -> int:
        """The smallest enclave that nitro-cli starts it in."""
        return min_memory_mib(self.size)


def read_eif(path: Path) -> EifFacts:
    """Size and architecture of an image whose header and section headers are sound; its data is not read.

    Raises:
        UsageError: no such file, or no image.
    """
    with open_regular(path, what="image file") as file:
        layout = parse_layout(file)
        return EifFacts(path=path, size=layout.size, arch=layout.header.arch.value)


def min_memory_mib(eif_bytes: int) -> int:
    """4 x the image in whole MiB, and the driver's minimum."""
    return max(DRIVER_MIN_MIB, EIF_RATIO * -(-eif_bytes // _MIB))


def round_to_region(mib: int) -> int:
    """The next size that the driver takes."""
    return -(-mib // REGION_MIB) * REGION_MIB


def boot_bound_s(eif_bytes: int, memory_mib: int) -> int:
    """How long nitro-cli waits for an enclave to boot before it gives up.

    90 s for each 6 GiB of the image that were begun, and 90 s for each 100 GiB of memory.
    """
    eif_steps = 1 + max(0, eif_bytes - 1) // _BOOT_EIF
    # (bytes - 1) // 100 GiB, in MiB
    memory_steps = 1 + max(0, memory_mib * _MIB - 1) // (_BOOT_MEMORY_MIB * _MIB)
    return _BOOT_STEP_S * (eif_steps + memory_steps)
