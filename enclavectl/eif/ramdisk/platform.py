"""The platforms of images, by Docker's names.

https://github.com/containerd/platforms/blob/v1.0.0-rc.1/database.go lists the other names.
"""

from __future__ import annotations

from dataclasses import dataclass

from enclavectl.eif.format import Arch
from enclavectl.errors import UsageError

_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
# Each architecture's first variant, which means the same as no variant.
_BASELINES = {"amd64": ("v1", "1"), "arm64": ("v8", "8")}


@dataclass(frozen=True, slots=True)
class Platform:
    """Linux on ``arch``; ``variant`` is empty for the baseline, which each machine of it supports."""

    arch: Arch
    variant: str = ""

    def __str__(self) -> str:
        return f"linux/{self.arch.value}" + (f"/{self.variant}" if self.variant else "")


def normal_platform(architecture: str, variant: str = "") -> tuple[str, str]:
    """Translate the names of an architecture and its variant to Docker's."""
    name = _ARCHITECTURES.get(architecture.lower(), architecture.lower())
    return name, "" if variant.lower() in _BASELINES.get(name, ()) else variant.lower()


def parse_platform(text: str) -> Platform:
    """Parse a platform such as ``linux/arm64``, ``arm64`` or ``linux/amd64/v3``.

    Raises:
        UsageError: enclaves do not run on it.
    """
    system, *rest = text.lower().split("/")
    if system != "linux":
        system, rest = "linux", [system, *rest]
    name, variant = normal_platform(*rest) if 1 <= len(rest) <= 2 else ("", "")
    if name not in [arch.value for arch in Arch]:
        raise UsageError(f"--platform: expected linux/amd64 or linux/arm64, found {text[:64]!r}")
    return Platform(Arch(name), variant)
