"""The end of a local enclave, read from its supervisor's last line on the console."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.console_log import read_console
from enclavectl.backends.history import console_tail
from enclavectl.backends.keeping.ending import EnclaveEnd

# The supervisor's last line: see supervisor.py, _end.
_ENDED = re.compile(r"^supervisor: the payload ended at ([0-9T:-]+Z) with (.+)$", re.MULTILINE)


def read_end(console: Path, *, how: str | None) -> EnclaveEnd:
    """Return when the payload of this console ended, and how; ``how`` None: as it says."""
    words = _ENDED.findall(console_tail(read_console(console)))
    ended = datetime.strptime(words[-1][0], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) if words else None
    if how is not None:
        return EnclaveEnd(at=ended or datetime.now(UTC), how=how)
    return EnclaveEnd(
        at=ended, how=f"its payload ended with {words[-1][1]}" if words else "its supervisor was killed"
    )
