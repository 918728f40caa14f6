"""What every backend offers, in the words of the commands that use it."""

from __future__ import annotations

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
    from enclavectl.models.find import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveSpec:
    """What to run. ``name`` and ``cid`` None let the backend choose.

    ``model`` and ``workers`` are for the local backend, which has no image; ``image`` (an EIF), ``cpus`` and
    ``cid`` for those that run virtual machines.
    """

    name: str | None
    debug: bool
    memory_mib: int
    port_in: int
    port_out: int
    model: Model | None = None
    workers: int = 1
    image: Path | None = None
    cpus: int = 1
    cid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What only an enclave in a virtual machine has.

    ``told_pcrs`` is what the host's tool computes from a file: no evidence, and no policy is made of it.
    ``owner`` is the user whose process keeps the enclave.
    """

    cid: int | None
    cpus: int
    cpu_ids: tuple[int, ...]
    image: Path | None
    asked_memory_mib: int | None
    told_pcrs: Mapping[str, str]
    owner: str | None

    def to_json(self) -> dict[str, object]:
        """The object under ``machine`` in the commands' JSON."""
        return {
            "cid": self.cid,
            "cpus": self.cpus,
            "cpu_ids": list(self.cpu_ids),
            "image": None if self.image is None else str(self.image),
            "asked_memory_mib": self.asked_memory_mib,
            "told_pcrs": {name.removeprefix("PCR"): value for name, value in self.told_pcrs.items()},
            "owner": self.owner,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclave:
    """One enclave as ``list`` and ``describe`` show it. ``measured`` are its registers before its start.

    Of enclaves that somebody else started, much is not known: it is None.
    """

    enclave_id: str
    name: str
    backend: str
    trust: Trust
    state: EnclaveState
    debug: bool
    pid: int | None
    started: datetime | None
    memory_mib: int | None
    model_id: str | None
    model_sha256: str | None
    measured: Mapping[int, bytes] | None
    address: Address
    machine: Machine | None = None

    @property
    def release(self) -> Release | None:
        """What it has to be, for a policy."""
        if self.measured is None:
            return None
        from enclavectl.attestation import Release

        return Release(name=f"{self.name} as started", pcrs=self.measured)

    def pcrs(self) -> dict[str, str]:
        """The measured registers in hex, by number."""
        return {str(index): value.hex() for index, value in (self.measured or {}).items()}

    def to_json(self) -> dict[str, object]:
        """The object under ``enclave`` in the commands' JSON."""
        return {
            "id": self.enclave_id,
            "name": self.name,
            "state": str(self.state),
            "debug": self.debug,
            "pid": self.pid,
            "started": None if self.started is None else self.started.isoformat(timespec="seconds"),
            "memory_mib": self.memory_mib,
            "address": str(self.address),
            "model": None if self.model_id is None else {"id": self.model_id, "sha256": self.model_sha256},
            "pcrs": self.pcrs(),
            "machine": None if self.machine is None else self.machine.to_json(),
        }


class RunningEnclave(Protocol):
    """An enclave just started by this process. Leaving the block ends it, unless it was detached."""

    @property
    def enclave(self) -> Enclave:
        """Its description at the start."""

    @property
    def patience_s(self) -> float:
        """How long nobody may listen at its address, because its system boots first. 0: never."""

    def is_alive(self) -> bool:
        """Whether it still runs, as far as this host knows."""

    def __enter__(self) -> Self:
        """Nothing more happens: it is starting already."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It has ended, with everything that belonged to it."""


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
        """All that are known, running or dead, oldest first; those of other users last."""

    def console(self, enclave: Enclave, *, follow: bool) -> Iterator[bytes]:
        """What it printed so far and, with ``follow``, what it prints until it ends.

        Raises:
            StateError: it has no console: only debug mode gives one to a real enclave.
        """

    def terminate(self, enclave: Enclave) -> None:
        """It is gone with everything that belonged to it. Terminating twice is no error."""

    def trust_root(self) -> TrustRoot:
        """The root that signs this backend's evidence."""

    def policy(self, enclaves: Sequence[Enclave], *, allow_debug: bool) -> Policy:
        """The policy where the user names none: exactly what was measured when these were started."""

    def outbound_address(self, port: int) -> Address:
        """Where this backend's enclaves dial out to: what ``listen`` binds."""
