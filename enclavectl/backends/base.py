"""The interface of every backend, in the terms of the commands that use it; ``machine`` adds machines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from enclave_payload.card import ModelCard
from enclavectl.backends.state import EnclaveState
from enclavectl.errors import EnclavectlError
from enclavectl.net.address import HostAddress
from enclavectl.trust import Trust

if TYPE_CHECKING:  # the verifier takes longer to import than a local enclave takes to start
    from enclavectl.attestation import Policy, Release, Root
    from enclavectl.models.weights import Model


WAITING = "waiting for the payload to prove itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveSpec:
    """The options of every enclave's start. ``name`` None lets the backend choose."""

    name: str | None
    debug: bool
    memory_mib: int
    port_in: int
    port_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedModel:
    """A model whose weights are sealed: the enclave starts without them. Its card is what it will measure."""

    card: ModelCard


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec(EnclaveSpec):
    """A payload to run in a process: with this model, ``workers`` pictures at the same time."""

    model: Model | SealedModel
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclave(ABC):
    """One enclave as ``list`` and ``describe`` show it. ``measured`` are the registers measured before its
    start.

    ``module_id`` is the name that its documents attest; None while it is unknown. ``is_owned``: the enclave
    belongs to the command that started it and will end it, so no other command may use it. ``is_sealed``: it
    started without weights. Unknown facts of other users' enclaves are None.
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
    address: HostAddress
    is_sealed: bool = False

    @property
    @abstractmethod
    def has_console(self) -> bool:
        """True if the enclave's console can be read."""

    @property
    @abstractmethod
    def memory_setting(self) -> str:
        """The configuration key of the enclave's memory."""

    @property
    def lock_sha256(self) -> str | None:
        """The SHA-256 of the lock that the enclave's image was launched with; None if it had none."""
        return None

    @property
    def release(self) -> Release | None:
        """The release of the enclave, for a policy; None if it was not measured before its start."""
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
        """True: its console is our pipe."""
        return True

    @property
    def memory_setting(self) -> str:
        """The configuration key of the bound on the process's address space."""
        return "local.memory_mib"


class RunningEnclave(Protocol):
    """An enclave that this process started. Leaving the block ends it, unless it is detached."""

    @property
    def enclave(self) -> Enclave:
        """The enclave's description at its start."""

    @property
    def boot_grace_s(self) -> float:
        """The seconds of boot during which nothing may listen at its address; 0 if it listens at once."""

    def is_alive(self) -> bool:
        """Return whether the enclave still runs, as far as this host knows."""

    def warning(self) -> str | None:
        """Return what this host does not give the enclave, once it has proved itself; None: it has all."""

    def activity(self) -> str:
        """Return what the enclave does while it boots, as far as this host knows."""

    def failure(self) -> EnclavectlError | None:
        """Return why the enclave ended by itself, if this host knows more than its console says."""

    def __enter__(self) -> Self:
        """Return the enclave, which has begun to start."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the enclave and remove its files; leave a detached one running."""


class Backend(Protocol):
    """A way to run enclaves on this host."""

    @property
    def name(self) -> str:
        """The backend's value of ``--backend``."""

    def start(self, spec: EnclaveSpec, *, detached: bool) -> RunningEnclave:
        """Start to boot an enclave. It may not answer yet; only its evidence proves that it runs.

        A detached enclave outlives this process. Any other ends with this process, however that ends.
        """

    def enclaves(self) -> list[Enclave]:
        """Return all known enclaves, running or dead, oldest first; those of other users last."""

    def console(self, enclave: Enclave, *, follow: bool) -> Iterator[bytes]:
        """Yield the enclave's output so far and, with ``follow``, its output until it ends.

        Raises:
            StateError: it has no console; a real enclave has one in debug mode only.
        """

    def terminate(self, enclave: Enclave) -> None:
        """End the enclave and remove its files. Terminating twice is no error."""

    def trust_root(self) -> Root:
        """Return the root that signs this backend's evidence."""

    def policy(self, enclaves: Sequence[Enclave], *, allow_debug: bool) -> Policy:
        """Return the default policy: exactly the registers measured at the start of these enclaves."""

    def outbound_address(self, port: int) -> HostAddress:
        """Return the address that this backend's enclaves dial and ``listen`` binds."""
