"""What every backend offers, in the words of the commands that use it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from enclavectl.transport import Address

if TYPE_CHECKING:  # the verifier takes longer to import than a local enclave to be started
    from enclavectl.attestation import Policy, Release, Trust, TrustRoot
    from enclavectl.models import Model


class EnclaveState(StrEnum):
    """What is known of an enclave's life."""

    RUNNING = "RUNNING"
    DEAD = "DEAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveSpec:
    """What to run. ``name`` None lets the backend choose one; ``memory_mib`` bounds the payload."""

    name: str | None
    model: Model
    debug: bool
    memory_mib: int
    workers: int
    port_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclave:
    """One enclave as ``list`` and ``describe`` show it. ``release`` is what was measured at its start."""

    enclave_id: str
    name: str
    backend: str
    trust: Trust
    state: EnclaveState
    debug: bool
    pid: int | None
    started: datetime
    memory_mib: int
    model_id: str
    model_sha256: str
    release: Release
    address: Address

    def to_json(self) -> dict[str, object]:
        """The object under ``enclave`` in the commands' JSON."""
        return {
            "id": self.enclave_id,
            "name": self.name,
            "state": str(self.state),
            "debug": self.debug,
            "pid": self.pid,
            "started": self.started.isoformat(timespec="seconds"),
            "memory_mib": self.memory_mib,
            "address": str(self.address),
            "model": {"id": self.model_id, "sha256": self.model_sha256},
            "pcrs": {str(index): value.hex() for index, value in self.release.pcrs.items()},
        }


class RunningEnclave(Protocol):
    """An enclave just started by this process. Leaving the block ends it, unless it was detached."""

    @property
    def enclave(self) -> Enclave:
        """Its description at the start."""

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
        """All that are known, running or dead, oldest first."""

    def console(self, enclave: Enclave, *, follow: bool) -> Iterator[bytes]:
        """What it printed so far and, with ``follow``, what it prints until it ends."""

    def terminate(self, enclave: Enclave) -> None:
        """It is gone with everything that belonged to it. Terminating twice is no error."""

    def trust_root(self) -> TrustRoot:
        """The root that signs this backend's evidence."""

    def policy(self, enclaves: Sequence[Enclave], *, allow_debug: bool) -> Policy:
        """The policy where the user names none: exactly what was measured when these were started."""

    def outbound_address(self, port: int) -> Address:
        """Where this backend's enclaves dial out to: what ``listen`` binds."""
