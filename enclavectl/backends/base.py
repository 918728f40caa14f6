"""What every backend offers, in the words of the commands that use it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from enclavectl.backends.state import EnclaveState
from enclavectl.net.address import Address
from enclavectl.trust import Trust

if TYPE_CHECKING:  # the verifier takes longer to import than a local enclave to be started
    from enclavectl.attestation import Policy, Release, TrustRoot
    from enclavectl.models.weights import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class _CommonSpec:
    """What every enclave is started with. ``name`` None lets the backend choose."""

    name: str | None
    debug: bool
    memory_mib: int
    port_in: int
    port_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec(_CommonSpec):
    """The payload to run in a process: ``workers`` pictures at the same time, with this model."""

    model: Model
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec(_CommonSpec):
    """The image to run in a virtual machine. ``image`` None: the one in the current folder.

    ``cid`` None lets the driver choose.
    """

    image: Path | None
    cpus: int
    cid: int | None


EnclaveSpec = ProcessSpec | MachineSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What only an enclave in a virtual machine has.

    ``nitro_cli_pcrs`` is what nitro-cli computes from a file: no evidence, and no policy is made of it.
    ``owner`` is the user whose process keeps the enclave.
    """

    cid: int | None
    cpus: int
    cpu_ids: tuple[int, ...]
    image: Path | None
    asked_memory_mib: int | None
    nitro_cli_pcrs: Mapping[str, str]
    owner: str | None

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
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclave(ABC):
    """One enclave as ``list`` and ``describe`` show it. ``measured`` are its registers before its start.

    ``module_id`` is the name that its documents attest; None while it is not known. ``is_owned``: it belongs
    to the command that started it, which ends it, so no other command may use it.
    Of enclaves that somebody else started, much is not known: it is None.
    """

    enclave_id: str
    module_id: str | None
    name: str
    backend: str
    trust: Trust
    state: EnclaveState
    debug: bool
    is_owned: bool
    pid: int | None
    started: datetime | None
    memory_mib: int | None
    model_id: str | None
    model_sha256: str | None
    measured: Mapping[int, bytes] | None
    address: Address

    @property
    @abstractmethod
    def has_console(self) -> bool:
        """True if what the enclave prints can be read."""

    @property
    @abstractmethod
    def memory_setting(self) -> str:
        """The configuration key of the memory that the enclave got."""

    @property
    def release(self) -> Release | None:
        """What the enclave has to be, for a policy; None where nobody measured it before its start."""
        if self.measured is None:
            return None
        from enclavectl.attestation import Release

        return Release(name=f"{self.name} as started", pcrs=self.measured)

    def pcrs(self) -> dict[str, str]:
        """Return the measured registers in hex, by number."""
        return {str(index): value.hex() for index, value in (self.measured or {}).items()}

    def to_json(self) -> dict[str, object]:
        """Return the object under ``enclave`` in the commands' JSON. ``machine`` is null for a process."""
        return {
            "id": self.enclave_id,
            "name": self.name,
            "state": str(self.state),
            "debug": self.debug,
            "owned": self.is_owned,
            "pid": self.pid,
            "started": None if self.started is None else self.started.isoformat(timespec="seconds"),
            "memory_mib": self.memory_mib,
            "address": str(self.address),
            "model": None if self.model_id is None else {"id": self.model_id, "sha256": self.model_sha256},
            "pcrs": self.pcrs(),
            "machine": None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEnclave(Enclave):
    """An enclave whose payload is a process of this machine."""

    @property
    def has_console(self) -> bool:
        """Always: its console is a pipe of ours."""
        return True

    @property
    def memory_setting(self) -> str:
        """The bound of the process's address space."""
        return "local.memory_mib"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineEnclave(Enclave):
    """An enclave that is a virtual machine booted from an image."""

    machine: Machine

    @property
    def has_console(self) -> bool:
        """In debug mode only, which also attests zeros."""
        return self.debug

    @property
    def memory_setting(self) -> str:
        """The memory of the machine."""
        return "enclave.memory_mib"

    def to_json(self) -> dict[str, object]:
        """Return the same with the machine."""
        return {**Enclave.to_json(self), "machine": self.machine.to_json()}


def machine_of(enclave: Enclave) -> Machine | None:
    """Return the enclave's virtual machine; None for a process."""
    return enclave.machine if isinstance(enclave, MachineEnclave) else None


class RunningEnclave(Protocol):
    """An enclave that this process started. Leaving the block ends it, unless it was detached."""

    @property
    def enclave(self) -> Enclave:
        """Its description at the start."""

    @property
    def boot_grace_s(self) -> float:
        """Seconds for which nobody may listen at its address, because its system boots first. 0: none."""

    def is_alive(self) -> bool:
        """Return whether it still runs, as far as this host knows."""

    def __enter__(self) -> Self:
        """Return the enclave, which is starting already."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the enclave and remove what belonged to it; let a detached one go."""


class Backend(Protocol):
    """A way to run enclaves on this host."""

    @property
    def name(self) -> str:
        """The word for ``--backend``."""

    def start(self, spec: EnclaveSpec, *, detached: bool) -> RunningEnclave:
        """Boot an enclave. It may not answer yet: its evidence is the sign of life.

        A detached enclave outlives this process; any other ends with it, however it ends.
        """

    def enclaves(self) -> list[Enclave]:
        """Return all that are known, running or dead, oldest first; those of other users last."""

    def console(self, enclave: Enclave, *, follow: bool) -> Iterator[bytes]:
        """Yield what it printed so far and, with ``follow``, what it prints until it ends.

        Raises:
            StateError: it has no console: only debug mode gives one to a real enclave.
        """

    def terminate(self, enclave: Enclave) -> None:
        """End the enclave and remove what belonged to it. Terminating twice is no error."""

    def trust_root(self) -> TrustRoot:
        """Return the root that signs this backend's evidence."""

    def policy(self, enclaves: Sequence[Enclave], *, allow_debug: bool) -> Policy:
        """Return the policy where the user names none: exactly what was measured at these enclaves' start."""

    def outbound_address(self, port: int) -> Address:
        """Return where this backend's enclaves dial out to: what ``listen`` binds."""
