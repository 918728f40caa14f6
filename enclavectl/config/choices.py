"""The words for ``--backend``, in a module of their own: every command line needs them, and little else."""

from __future__ import annotations

from enum import StrEnum


class BackendChoice(StrEnum):
    """What runs the enclave; ``auto``: ``nitro`` where /dev/nitro_enclaves exists, else ``local``."""

    AUTO = "auto"
    NITRO = "nitro"
    QEMU = "qemu"
    LOCAL = "local"
