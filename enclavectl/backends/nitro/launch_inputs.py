"""The inputs of a launch: a free name and CID, the record, and the CPUs in use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from enclavectl.backends.base import Enclave
from enclavectl.backends.machine import MachineEnclave, MachineSpec
from enclavectl.backends.nitro.records import Record
from enclavectl.backends.state import EnclaveState

if TYPE_CHECKING:
    from enclavectl.backends.keeping.images import AdmittedImage


def record_of(spec: MachineSpec, name: str, image: AdmittedImage, *, detached: bool) -> Record:
    """Make the record that is written before a launch."""
    return Record(
        name=name,
        started=datetime.now(UTC),
        detached=detached,
        debug=spec.debug,
        memory_mib=spec.memory_mib,
        cpus=spec.cpus,
        cid=spec.cid,
        port_in=spec.port_in,
        image=image.path,
        image_size=image.size,
        image_sha256=image.sha256,
        lock_sha256=image.lock_sha256,
        model_id=image.model[0] if image.model else None,
        model_sha256=image.model[1] if image.model else None,
        is_sealed=spec.sealed is not None,
        pcrs=image.pcrs,
    )


def cpus_in_use(known: Sequence[Enclave]) -> frozenset[int]:
    """Return the CPUs known to be in use; those of some enclaves are unknown."""
    running = [one for one in known if one.state is EnclaveState.RUNNING]
    return frozenset(cpu for one in running if isinstance(one, MachineEnclave) for cpu in one.machine.cpu_ids)
