"""What is kept of a local enclave that is gone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.base import Enclave
from enclavectl.backends.console_log import read_console
from enclavectl.backends.history import History, Past, console_tail

# The supervisor's last line: see supervisor.py, _end.
_ENDED = re.compile(r"^supervisor: the payload ended at ([0-9T:-]+Z) with (.+)$", re.MULTILINE)


def keep_history(state_dir: Path, folder: Path, enclave: Enclave, *, how: str | None) -> None:
    """The enclave in ``folder`` is in the history. ``how`` None: as its console says.

    Raises:
        HostError: the state folder cannot be written.
    """
    console = console_tail(read_console(folder / "console.log"))
    words = _ENDED.findall(console)
    ended = datetime.strptime(words[-1][0], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) if words else None
    if how is None:
        how = f"its payload ended with {words[-1][1]}" if words else "its supervisor was killed"
        at = ended
    else:
        at = ended or datetime.now(UTC)
    History(state_dir).add(
        Past(
            enclave_id=enclave.enclave_id,
            name=enclave.name,
            backend=enclave.backend,
            trust=str(enclave.trust),
            started=enclave.started or datetime.now(UTC),
            ended=at,
            how=how,
            model_id=enclave.model_id,
            pcrs=enclave.pcrs(),
            console=console,
        )
    )
