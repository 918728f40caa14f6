"""What an enclave needs, from nitro-cli's and the driver's own rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enclavectl.eif.errors import naming
from enclavectl.eif.format import Arch
from enclavectl.eif.scan import parse_layout
from enclavectl.files import open_regular
from enclavectl.host.memory import REGION_MIB
from enclavectl.nitro_cli.limits import minimum_memory_mib

MAX_ENCLAVES = 4  # of one instance: https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave.html


@dataclass(frozen=True, slots=True, kw_only=True)
class EifFacts:
    """An image as far as its place in memory is concerned; ``arch`` is empty where it was not read."""

    path: Path
    size: int
    arch: str

    def to_json(self) -> dict[str, object]:
        """Return the facts as JSON values."""
        return {"file": str(self.path), "size": self.size, "arch": self.arch}

    @property
    def machine(self) -> str | None:
        """The machine that it runs on, as ``uname -m`` says it; None where that was not read."""
        return Arch(self.arch).machine if self.arch else None

    @property
    def min_memory_mib(self) -> int:
        """The smallest enclave that nitro-cli starts it in."""
        return minimum_memory_mib(self.size)


def read_eif(path: Path) -> EifFacts:
    """Read size and architecture of an image whose headers are sound; its data is not read.

    Raises:
        UsageError: no such file, or no image.
    """
    with open_regular(path, what="image file") as file, naming(path):
        layout = parse_layout(file)
        return EifFacts(path=path, size=layout.size, arch=layout.header.arch.value)


def round_to_region(mib: int) -> int:
    """Round up to the next size in MiB that the driver takes."""
    return -(-mib // REGION_MIB) * REGION_MIB
