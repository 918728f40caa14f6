"""The end of an enclave, as far as the host can know it: nitro-cli keeps neither exit codes nor reasons."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.history import History
from enclavectl.backends.keeping.ending import TERMINATED, EnclaveEnd, history_entry, load_ended
from enclavectl.backends.nitro.records import (
    Record,
    is_asked_to_end,
    load_launched,
    load_record,
)
from enclavectl.errors import UsageError
from enclavectl.files import open_regular
from enclavectl.nitro_cli.answers import RunInfo

# Bytes. nitro-cli's log is never rotated; the line about a recent end is near the log's end.
_LOG_TAIL = 1024 * 1024
_HANG_UP = "Received hang-up event"


@dataclass(frozen=True, slots=True)
class EndObserver:
    """An enclave whose daemon has ended."""

    folder: Path
    record: Record
    info: RunInfo
    logs: Path

    def describe(self) -> EnclaveEnd:
        """Return the time of the end, which is now, and a description."""
        if is_asked_to_end(self.folder):
            how = TERMINATED
        elif self._hung_up():
            how = "it ended by itself: its payload ended, or its system crashed (the driver hung up)"
        else:
            how = "it vanished: terminated by somebody else, or its nitro-cli process was killed"
        return EnclaveEnd(at=datetime.now(UTC), how=how)

    def _hung_up(self) -> bool:
        """Return whether the daemon logged the enclave's hang-up. Its lines carry its process id."""
        try:
            # Others may write to that folder: a FIFO in place of the log must not block us.
            with open_regular(self.logs / "nitro_enclaves.log") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - _LOG_TAIL, 0))
                lines = file.read(_LOG_TAIL).decode("utf-8", errors="replace").splitlines()
        except (UsageError, OSError):
            return False
        return any(_HANG_UP in line and self._is_ours(line) for line in lines)

    def _is_ours(self, line: str) -> bool:
        """Return whether this daemon wrote the line: an earlier daemon may have had its process id."""
        words = line.split("][", 3)
        began = self.record.started.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return len(words) == 4 and words[0].endswith(f":{self.info.process_id}") and words[2] >= began


def keep_history(state_dir: Path, folder: Path, *, trust: str) -> None:
    """Add the enclave of a folder to the history.

    Raises:
        StateError: the record is damaged.
        HostError: the state folder cannot be written.
    """
    info = load_launched(folder)
    ended = load_ended(folder) or EnclaveEnd(at=None, how="it vanished; nobody of ours was there to see how")
    entry = history_entry(folder, load_record(folder), ended, backend="nitro", trust=trust)
    History(state_dir).add(replace(entry, enclave_id=info.enclave_id) if info else entry)
