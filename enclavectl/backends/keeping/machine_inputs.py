"""The inputs of a virtual machine's launch: a free name and a free CID."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from enclavectl.backends.base import Enclave, MachineEnclave
from enclavectl.backends.keeping.names import require_free_name
from enclavectl.backends.state import EnclaveState
from enclavectl.errors import StateError


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
