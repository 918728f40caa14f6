"""The values of ``--backend``, in a small module, because every command line imports it."""

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
