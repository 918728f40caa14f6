"""The inputs of a virtual machine's launch: what can be checked before anything is made, name and CID."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from enclavectl.backends.base import Enclave, EnclaveSpec
from enclavectl.backends.keeping.images import check_memory, image_to_run
from enclavectl.backends.keeping.names import check_name, require_free_name
from enclavectl.backends.machine import MachineEnclave, MachineSpec
from enclavectl.backends.state import EnclaveState
from enclavectl.errors import StateError, UsageError
from enclavectl.nitro_cli.limits import check_cid


def check_machine(spec: EnclaveSpec, backend: str) -> tuple[MachineSpec, Path]:
    """Check what needs neither the host nor a copy of the image; return ``spec`` and the image's path.

    Raises:
        UsageError: name, CID or memory cannot be used, or there is no image in ``spec``.
        StateError: there is no image.
    """
    if not isinstance(spec, MachineSpec):
        raise UsageError(f"backend {backend}: expected an image for a machine, found a model for a process")
    if spec.name is not None:
        check_name(spec.name)
    if spec.cid is not None:
        check_cid(spec.cid)
    source = image_to_run(spec.image)
    if source.is_file():
        check_memory(source.stat().st_size, spec.memory_mib)  # before the copy, which may take a while
    return spec, source


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
                hint="leave --cid out and a free one is chosen",
                code="cid-in-use",
            )
