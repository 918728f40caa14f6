"""The values of ``--backend`` and of the accelerator, in a small module, as every command line imports it."""

from __future__ import annotations

from enum import StrEnum


class BackendChoice(StrEnum):
    """A backend for enclaves. ``auto`` means ``nitro`` if /dev/nitro_enclaves exists, else ``local``."""

    AUTO = "auto"
    NITRO = "nitro"
    QEMU = "qemu"
    LOCAL = "local"

    @property
    def runs_machines(self) -> bool:
        """True if enclaves are virtual machines booted from an image. Resolve ``auto`` first."""
        return self is not BackendChoice.LOCAL


class Accelerator(StrEnum):
    """What runs the instructions of a machine of QEMU's: the processor, or QEMU itself.

    ``auto`` means ``kvm`` if a probe shows that it works here, and fast, else ``tcg``.
    """

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"
