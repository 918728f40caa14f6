"""The end of an enclave: how it ended, and its entry in the history."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from enclavectl.backends.console_log import read_console
from enclavectl.backends.history import HistoryEntry, console_tail
from enclavectl.backends.keeping.records import EnclaveRecord
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded, write_atomic
from enclavectl.json_object import JsonError, JsonObject

TERMINATED = "terminated by enclavectl"
# A time and a sentence, which may quote a line of a console.
_MAX_END_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveEnd:
    """When an enclave ended and how, in words. ``at`` is None if the time is unknown."""

    at: datetime | None
    how: str


def write_ended(folder: Path, ended: EnclaveEnd) -> None:
    """Record that the enclave has ended."""
    value = {"at": None if ended.at is None else ended.at.isoformat(), "how": ended.how}
    write_atomic(folder / "ended.json", json.dumps(value).encode())


def load_ended(folder: Path) -> EnclaveEnd | None:
    """Read when and how the enclave ended; None while no end is recorded."""
    try:
        value = JsonObject.parse(read_bounded(folder / "ended.json", _MAX_END_BYTES, what="record"))
        return EnclaveEnd(at=value.optional_time("at"), how=value.string("how"))
    except (UsageError, JsonError):
        return None


def history_entry(
    folder: Path, record: EnclaveRecord, ended: EnclaveEnd, *, backend: str, trust: str
) -> HistoryEntry:
    """Return an ended enclave's entry, with the last lines of its console.

    ``trust`` is the maximum trust of its evidence.
    """
    return HistoryEntry(
        enclave_id=folder.name,
        name=record.name,
        backend=backend,
        trust=trust,
        started=record.started,
        ended=ended.at,
        how=ended.how,
        model_id=record.model_id,
        pcrs=record.pcrs_json(),
        console=console_tail(read_console(folder / "console.log")),
    )
