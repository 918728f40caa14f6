"""The pool's CPUs in use: only nitro-cli knows them, and only ``NitroCli`` queries it safely."""

from __future__ import annotations

from collections.abc import Mapping

from enclavectl.errors import HostError
from enclavectl.nitro_cli.tool import NitroCli
from enclavectl.progress import Progress


def used_cpus(environ: Mapping[str, str], progress: Progress) -> frozenset[int] | None:
    """Return the CPUs of all enclaves; None, with a note, if an enclave or nitro-cli does not answer."""
    try:
        described = NitroCli(environ, progress).describe()
    except HostError as exc:
        progress.note(f"which CPUs are in use is not known: {exc.message}")
        return None
    if described.unreachable:
        progress.note(
            f"{described.unreachable} enclaves do not answer, so which CPUs are in use is not known"
        )
        return None
    return frozenset(cpu for one in described.enclaves for cpu in one.run.cpu_ids)
