"""How an enclave ended, as far as a host can know: nitro-cli keeps neither exit codes nor reasons."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.console_log import read_console
from enclavectl.backends.history import History, Past, console_tail
from enclavectl.backends.nitro.records import (
    Ended,
    Record,
    is_asked_to_end,
    load_ended,
    load_launched,
    load_record,
)
from enclavectl.errors import UsageError
from enclavectl.files import open_regular
from enclavectl.nitro_cli.answers import RunInfo

# nitro-cli's log is never rotated; the line about an end that was just seen is near its own end.
_LOG_TAIL = 1024 * 1024
_HANG_UP = "Received hang-up event"


@dataclass(frozen=True, slots=True)
class Ending:
    """An enclave whose daemon has ended."""

    folder: Path
    record: Record
    info: RunInfo
    logs: Path

    def describe(self) -> Ended:
        """When, and how in words."""
        if is_asked_to_end(self.folder):
            how = "terminated by enclavectl"
        elif self._hung_up():
            how = "it ended by itself: its payload ended, or its system crashed (the driver hung up)"
        else:
            how = "it vanished: terminated by somebody else, or its nitro-cli process was killed"
        return Ended(at=datetime.now(UTC), how=how)

    def _hung_up(self) -> bool:
        """Whether the daemon wrote that the enclave left it. Its lines carry its process id."""
        try:
            # Others may write to that folder: a FIFO in its place must not make us wait.
            with open_regular(self.logs / "nitro_enclaves.log") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - _LOG_TAIL, 0))
                lines = file.read(_LOG_TAIL).decode("utf-8", errors="replace").splitlines()
        except (UsageError, OSError):
            return False
        return any(_HANG_UP in line and self._is_ours(line) for line in lines)

    def _is_ours(self, line: str) -> bool:
        """Whether our daemon wrote it: its number may have been another one's before."""
        words = line.split("][", 3)
        began = self.record.started.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return len(words) == 4 and words[0].endswith(f":{self.info.process_id}") and words[2] >= began


def keep_history(state_dir: Path, folder: Path, *, trust: str) -> None:
    """What is in an enclave's folder is in the history, too.

    Raises:
        StateError: the record is damaged.
        HostError: the state folder cannot be written.
    """
    record, info, ended = load_record(folder), load_launched(folder), load_ended(folder)
    History(state_dir).add(
        Past(
            enclave_id=info.enclave_id if info else folder.name,
            name=record.name,
            backend="nitro",
            trust=trust,
            started=record.started,
            ended=ended.at if ended else None,
            how=ended.how if ended else "it vanished; nobody of ours was there to see how",
            model_id=record.model_id,
            pcrs={str(index): value.hex() for index, value in record.pcrs.items()},
            console=console_tail(read_console(folder / "console.log")),
        )
    )
