"""The needs of an enclave by the rules of nitro-cli and the driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enclavectl.eif.format import Arch
from enclavectl.eif.opening import open_image
from enclavectl.eif.scan import parse_layout
from enclavectl.host.memory import REGION_MIB
from enclavectl.nitro_cli.limits import minimum_memory_mib

# Of this package's payload (docs/operations.md). What one decoder may take for one picture, which the kernel
# enforces; and all else, estimated: root file system 100, kernel 100, processes 100 to 150, and the bounds on
# what waits or is on its way (128 MiB of unfinished frames, 64 of queued requests).
PICTURE_MIB = 896
PAYLOAD_BASE_MIB = 600
MIN_WORKERS = 2
# What nitro-cli, Python and we take beside the image, in MiB; a pod that has less is killed while it boots.
IMAGE_SLACK_MIB = 256
MAX_ENCLAVES = 4  # of one instance: https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave.html


@dataclass(frozen=True, slots=True, kw_only=True)
class EifFacts:
    """The facts of an image that decide its memory; ``arch`` is empty if it was not read."""

    path: Path
    size: int
    arch: str

    def to_json(self) -> dict[str, object]:
        """Return the facts as JSON values."""
        return {"file": str(self.path), "size": self.size, "arch": self.arch}

    @property
    def machine(self) -> str | None:
        """The ``uname -m`` of the machines that run it; None if it was not read."""
        return Arch(self.arch).machine if self.arch else None

    @property
    def min_memory_mib(self) -> int:
        """nitro-cli's minimum memory for it, in MiB."""
        return minimum_memory_mib(self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The needs of one more enclave. ``is_exact``: a person chose this memory, so too little is an error."""

    memory_mib: int
    cpus: int
    eif: EifFacts | None = None
    is_exact: bool = False

    @property
    def min_memory_mib(self) -> int:
        """nitro-cli's minimum memory for the image; 0 without one."""
        return self.eif.min_memory_mib if self.eif else 0

    @property
    def needed_mib(self) -> int:
        """The memory that the enclave gets."""
        return round_to_region(max(self.memory_mib, self.min_memory_mib))


def read_eif(path: Path) -> EifFacts:
    """Read size and architecture of an image from its headers, which must be valid.

    Raises:
        UsageError: the file is missing or no image.
        HostError: it cannot be read.
    """
    with open_image(path) as file:
        layout = parse_layout(file)
        return EifFacts(path=path, size=layout.size, arch=layout.header.arch.value)


def payload_memory_mib(cpus: int) -> int:
    """Return the MiB that this package's payload takes while all workers have the worst pictures."""
    return PAYLOAD_BASE_MIB + max(MIN_WORKERS, cpus) * PICTURE_MIB


def round_to_region(mib: int) -> int:
    """Round up to the next size in MiB that the driver accepts."""
    return -(-mib // REGION_MIB) * REGION_MIB
