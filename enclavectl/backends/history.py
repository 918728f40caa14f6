"""What is kept of enclaves that are gone: when they ran, how they ended, and their consoles' last lines.

``<state>/history/<start>-<id>.json``, 0600, the newest ``KEEP`` of them. A console may hold what a payload
should not have printed, so nobody else may read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.errors import UsageError
from enclavectl.files import make_private_dir, read_bounded, write_atomic

HISTORY_SCHEMA = "enclavectl.history-entry/1"
KEEP = 100
# The last lines say why it ended; the boot text before them is the same each time.
TAIL_BYTES = 64 * 1024
_MAX_BYTES = 1024 * 1024
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One enclave that is gone. ``ended`` None: nobody saw when."""

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
        """The object in the file; without the console, the one in a list."""
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
    """The enclaves of this user that are gone."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "history"

    def add(self, past: Past) -> None:
        """It is kept, unless it was already: who sees an end first knows best how it was.

        Raises:
            HostError: the state folder cannot be written.
        """
        make_private_dir(self._folder)
        stamp = past.started.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = self._folder / f"{stamp}-{_NOT_IN_NAMES.sub('_', past.enclave_id)[:128]}.json"
        if not path.exists():
            value = {"schema": HISTORY_SCHEMA, **past.to_json()}
            write_atomic(path, json.dumps(value, indent=2).encode())
        for old in self._paths()[:-KEEP]:
            old.unlink(missing_ok=True)

    def all(self) -> list[Past]:
        """Every one that is kept, oldest first. Damaged files are passed over: they are only a memory."""
        found = (_read(path) for path in self._paths())
        return [past for past in found if past is not None]

    def find(self, reference: str) -> Past | None:
        """The newest with that name or id, else the newest whose name or id starts so."""
        known = self.all()[::-1]
        exact = (past for past in known if reference in (past.name, past.enclave_id))
        similar = (
            past for past in known if past.name.startswith(reference) or past.enclave_id.startswith(reference)
        )
        return next(exact, None) or (next(similar, None) if reference else None)

    def _paths(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.suffix == ".json")
        except OSError:
            return []


def console_tail(chunks: Iterable[bytes]) -> str:
    """The last lines of a console as text; a first line that was cut is dropped."""
    data = b"".join(chunks)
    text = data[-TAIL_BYTES:].decode("utf-8", errors="replace")
    return text if len(data) <= TAIL_BYTES else text.partition("\n")[2]


def _read(path: Path) -> Past | None:
    try:
        value = json.loads(read_bounded(path, _MAX_BYTES, what="history"))
        if value["schema"] != HISTORY_SCHEMA:
            return None
        return Past(
            enclave_id=str(value["id"]),
            name=str(value["name"]),
            backend=str(value["backend"]),
            trust=str(value["trust"]),
            started=_time(value["started"]),
            ended=None if value["ended"] is None else _time(value["ended"]),
            how=str(value["how"]),
            model_id=None if value["model"] is None else str(value["model"]),
            pcrs={str(key): str(register) for key, register in value["pcrs"].items()},
            console=str(value["console"]),
        )
    except (UsageError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
