"""The inputs of a launch: a free name and CID, the record, and the CPUs in use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.backends.base import Enclave, MachineEnclave, MachineSpec
from enclavectl.backends.keeping.names import require_free_name
from enclavectl.backends.nitro.records import Record
from enclavectl.backends.state import EnclaveState
from enclavectl.errors import StateError

if TYPE_CHECKING:
    from enclavectl.backends.nitro.images import AdmittedImage


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
        model_id=image.model[0] if image.model else None,
        model_sha256=image.model[1] if image.model else None,
        pcrs=image.pcrs,
    )


def free_name(wanted: str | None, source: Path, known: Sequence[Enclave]) -> str:
    """Return the wanted name, or one made from the image's name.

    Raises:
        StateError: an enclave has that name.
    """
    taken = {enclave.name for enclave in known}
    if wanted is None:
        base = re.sub(r"[^A-Za-z0-9_.-]", "-", source.stem).lstrip("_.-")[:56] or "enclave"
        return next(name for name in chain([base], (f"{base}-{n}" for n in count(2))) if name not in taken)
    require_free_name(wanted, taken)
    return wanted


def check_free_cid(cid: int | None, known: Sequence[Enclave]) -> None:
    """Check that no known enclave has this CID.

    Raises:
        StateError: an enclave has it.
    """
    for enclave in known:
        if cid is None or enclave.state is EnclaveState.DEAD or not isinstance(enclave, MachineEnclave):
            continue
        if enclave.machine.cid == cid:
            raise StateError(
                f"CID {cid}: in use by {enclave.name}",
                hint="leave --cid out and the driver chooses a free one",
                code="cid-in-use",
            )


def cpus_in_use(known: Sequence[Enclave]) -> frozenset[int]:
    """Return the CPUs known to be in use; those of some enclaves are unknown."""
    running = [one for one in known if one.state is EnclaveState.RUNNING]
    return frozenset(cpu for one in running if isinstance(one, MachineEnclave) for cpu in one.machine.cpu_ids)
