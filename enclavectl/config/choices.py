"""The words for ``--backend``, in a module of their own: every command line needs them, and little else."""

from __future__ import annotations

from enum import StrEnum


class BackendChoice(StrEnum):
    """What runs the enclave; ``auto``: ``nitro`` where /dev/nitro_enclaves exists, else ``local``."""

    AUTO = "auto"
    NITRO = "nitro"
    QEMU = "qemu"
    LOCAL = "local"

    @property
    def runs_machines(self) -> bool:
        """True if enclaves are virtual machines booted from an image. ``auto`` has to be resolved first."""
        return self is not BackendChoice.LOCAL
