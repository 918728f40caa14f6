"""The record of an enclave, written into its folder before the launch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypedDict, TypeVar

from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.errors import StateError, UsageError
from enclavectl.files import read_bounded, require_private_dir
from enclavectl.json_object import JsonError, JsonObject

T = TypeVar("T")
# The longest record, a nitro one with every register, has 4 KiB.
_MAX_RECORD_BYTES = 64 * 1024
_PCR_BYTES = 48  # SHA-384
_LOCK_HASH_BYTES = 32  # SHA-256
# The NSM has 32 registers.
_PCR_INDEX = re.compile(r"[0-9]|[12][0-9]|3[01]")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveRecord:
    """The facts of an enclave before its launch, on every backend.

    ``detached``: the enclave outlives the command that started it; any other belongs to that command.
    ``pcrs`` are measured by us, from the very files that are launched. ``model_id`` is None if no lock names
    the model. ``is_sealed``: the enclave starts without weights, and its model comes sealed.
    """

    name: str
    started: datetime
    detached: bool
    debug: bool
    memory_mib: int
    model_id: str | None
    model_sha256: str | None
    pcrs: dict[int, bytes]
    is_sealed: bool = False

    def common_json(self) -> dict[str, object]:
        """Return the members of ``record.json`` that all backends share."""
        model = None if self.model_id is None else {"id": self.model_id, "sha256": self.model_sha256}
        return {
            "name": self.name,
            "started": self.started.isoformat(),
            "detached": self.detached,
            "debug": self.debug,
            "memory_mib": self.memory_mib,
            "model": model,
            "sealed": self.is_sealed,
            "pcrs": self.pcrs_json(),
        }

    def pcrs_json(self) -> dict[str, str]:
        """Return the registers in hex, by number."""
        return {str(index): value.hex() for index, value in self.pcrs.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRecord(EnclaveRecord):
    """The record of an enclave that ends with its keeper, the process ``supervisor``."""

    supervisor: ProcessIdentity


class CommonFields(TypedDict):
    """The arguments of ``EnclaveRecord``."""

    name: str
    started: datetime
    detached: bool
    debug: bool
    memory_mib: int
    model_id: str | None
    model_sha256: str | None
    pcrs: dict[int, bytes]
    is_sealed: bool


def read_common(value: JsonObject) -> CommonFields:
    """Read the output of ``EnclaveRecord.common_json``.

    Raises:
        JsonError: a member is missing or of another type.
    """
    model = value.optional_object("model")
    return CommonFields(
        name=value.string("name"),
        started=value.time("started"),
        detached=value.boolean("detached"),
        debug=value.boolean("debug"),
        memory_mib=value.integer("memory_mib"),
        model_id=None if model is None else model.string("id"),
        model_sha256=None if model is None else model.string("sha256"),
        pcrs=_read_pcrs(value.object("pcrs")),
        is_sealed=value.boolean("sealed"),
    )


def read_lock_sha256(value: JsonObject) -> str | None:
    """Read the hash of the lock that the launched image had, of the backends that launch images.

    Raises:
        JsonError: it is no such hash.
    """
    found = value.optional_hex("lock_sha256", length=_LOCK_HASH_BYTES)
    return None if found is None else found.hex()


def _read_pcrs(value: JsonObject) -> dict[int, bytes]:
    for index in value:
        if _PCR_INDEX.fullmatch(index) is None:
            raise JsonError(f"pcrs: expected the number of a register (0 to 31), found {index!r:.60}")
    return {int(index): value.hex(index, length=_PCR_BYTES) for index in value}


def read_record(path: Path, schema: str, parse: Callable[[JsonObject], T], *, hint: str | None = None) -> T:
    """Read a record of ``schema`` with ``parse``; ``hint`` tells the user how to remove a damaged one.

    Raises:
        StateError: it is missing or damaged.
        HostError: another user may have written it.
    """
    require_private_dir(path.parent)
    hint = hint or f"if no enclave of yours is in there: rm -r '{path.parent}'"
    try:
        value = JsonObject.parse(read_bounded(path, _MAX_RECORD_BYTES, what="enclave record"))
        value.require_schema(schema)
        return parse(value)
    except UsageError as exc:
        raise StateError(exc.message, hint=exc.hint) from exc
    except JsonError as exc:
        raise StateError(f"{path}: expected a record of {schema}; {exc}", hint=hint) from exc
