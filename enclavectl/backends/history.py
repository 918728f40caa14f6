"""The history of ended enclaves: when they ran, how they ended, and the last lines of their consoles.

It is in ``<state>/history/<start>-<id>.json``, mode 0600, the newest ``KEEP`` entries. A console may contain
data that a payload should not have printed, so other users may not read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.files import make_private_dir, read_bounded, require_private_dir, write_atomic
from enclavectl.json_object import JsonError, JsonObject

HISTORY_SCHEMA = "enclavectl.history-entry/1"
# Entries: a few months of an operator's enclaves; each file has at most a megabyte.
KEEP = 100
# The last lines show why an enclave ended; the boot messages before them are the same each time.
TAIL_BYTES = 64 * 1024
# The console's tail with every character escaped, and the other fields of an entry.
_MAX_BYTES = 1024 * 1024
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """An ended enclave. ``ended`` is None if the time of the end is unknown."""

    enclave_id: str
    name: str
    backend: str
    trust: str
    started: datetime
    ended: datetime | None
    how: str
    model_id: str | None
    pcrs: Mapping[str, str]
    console: str

    def to_json(self, *, console: bool = True) -> dict[str, object]:
        """Return the object in the file, or without the console the one in a list."""
        value: dict[str, object] = {
            "id": self.enclave_id,
            "name": self.name,
            "backend": self.backend,
            "trust": self.trust,
            "started": self.started.isoformat(timespec="seconds"),
            "ended": None if self.ended is None else self.ended.isoformat(timespec="seconds"),
            "how": self.how,
            "model": self.model_id,
            "pcrs": dict(self.pcrs),
        }
        return {**value, "console": self.console} if console else value


class History:
    """The history of this user's ended enclaves."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "history"

    def add(self, entry: HistoryEntry) -> None:
        """Store the entry, unless the enclave has one: the first observer of an end knows most about it.

        Raises:
            HostError: the state folder cannot be written.
        """
        make_private_dir(self._folder)
        stamp = entry.started.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = self._folder / f"{stamp}-{_NOT_IN_NAMES.sub('_', entry.enclave_id)[:128]}.json"
        if not path.exists():
            value = {"schema": HISTORY_SCHEMA, **entry.to_json()}
            write_atomic(path, json.dumps(value, indent=2).encode())
        for old in self._paths()[:-KEEP]:
            old.unlink(missing_ok=True)

    def all(self) -> list[HistoryEntry]:
        """Return every entry, oldest first. Damaged files are skipped, since no command depends on them.

        Raises:
            HostError: another user may have written into the folder.
        """
        found = (_read(path) for path in self._paths())
        return [entry for entry in found if entry is not None]

    def find(self, reference: str) -> HistoryEntry | None:
        """Return the newest entry with that name or id, else the newest whose name or id starts with it."""
        known = self.all()[::-1]
        exact = (entry for entry in known if reference in (entry.name, entry.enclave_id))
        similar = (
            entry
            for entry in known
            if entry.name.startswith(reference) or entry.enclave_id.startswith(reference)
        )
        return next(exact, None) or (next(similar, None) if reference else None)

    def _paths(self) -> list[Path]:
        if not require_private_dir(self._folder):
            return []
        try:
            return sorted(path for path in self._folder.iterdir() if path.suffix == ".json")
        except OSError:
            return []


def console_tail(chunks: Iterable[bytes]) -> str:
    """Return the last lines of a console as text, without a first line that was cut."""
    data = b"".join(chunks)
    text = data[-TAIL_BYTES:].decode("utf-8", errors="replace")
    return text if len(data) <= TAIL_BYTES else text.partition("\n")[2]


def _read(path: Path) -> HistoryEntry | None:
    try:
        value = JsonObject.parse(read_bounded(path, _MAX_BYTES, what="history"), limit=_MAX_BYTES)
        value.require_schema(HISTORY_SCHEMA)
        return HistoryEntry(
            enclave_id=value.string("id"),
            name=value.string("name"),
            backend=value.string("backend"),
            trust=value.string("trust"),
            started=value.time("started"),
            ended=value.optional_time("ended"),
            how=value.string("how"),
            model_id=value.optional_string("model"),
            pcrs=value.string_map("pcrs"),
            console=value.string("console"),
        )
    except (UsageError, JsonError):
        return None
