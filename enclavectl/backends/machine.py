"""Enclaves that are virtual machines booted from an image, in the terms of ``base``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enclavectl.backends.base import Enclave, EnclaveSpec, SealedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec(EnclaveSpec):
    """An image to run in a virtual machine. ``image`` None: the image in the current folder.

    ``cid`` None lets the driver choose. ``boot_wait_s`` is how long a launch may wait while another one that
    takes no part in the locks of this host boots. ``sealed`` is the model of an image without weights.
    """

    image: Path | None
    cpus: int
    cid: int | None
    boot_wait_s: int = 0
    sealed: SealedModel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts of an enclave's virtual machine.

    ``nitro_cli_pcrs`` are nitro-cli's computations from a file: they are no evidence, and no policy is made
    of them. ``owner`` is the user whose process keeps the enclave. ``lock_sha256`` is of the lock that lay
    beside the image at the launch and named it; None if there was none.
    """

    cid: int | None
    cpus: int
    cpu_ids: tuple[int, ...]
    image: Path | None
    asked_memory_mib: int | None
    nitro_cli_pcrs: Mapping[str, str]
    owner: str | None
    lock_sha256: str | None

    def to_json(self) -> dict[str, object]:
        """Return the object under ``machine`` in the commands' JSON."""
        return {
            "cid": self.cid,
            "cpus": self.cpus,
            "cpu_ids": list(self.cpu_ids),
            "image": None if self.image is None else str(self.image),
            "asked_memory_mib": self.asked_memory_mib,
            "nitro_cli_pcrs": {
                name.removeprefix("PCR"): value for name, value in self.nitro_cli_pcrs.items()
            },
            "owner": self.owner,
            "lock_sha256": self.lock_sha256,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineEnclave(Enclave):
    """An enclave that is a virtual machine booted from an image."""

    machine: Machine

    @property
    def lock_sha256(self) -> str | None:
        """The SHA-256 of the lock that lay beside the image at the launch."""
        return self.machine.lock_sha256

    @property
    def has_console(self) -> bool:
        """True in debug mode only, whose attested registers are zeros."""
        return self.debug

    @property
    def memory_setting(self) -> str:
        """The configuration key of the machine's memory."""
        return "enclave.memory_mib"

    def to_json(self) -> dict[str, object]:
        """Return the object of ``Enclave.to_json`` with the machine."""
        return {**Enclave.to_json(self), "machine": self.machine.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedEnclave(MachineEnclave):
    """An enclave that is a virtual machine of QEMU's."""

    @property
    def has_console(self) -> bool:
        """True: its serial line is our pipe, and nothing protects it from this host."""
        return True


def machine_of(enclave: Enclave) -> Machine | None:
    """Return the enclave's virtual machine; None for a process."""
    return enclave.machine if isinstance(enclave, MachineEnclave) else None
