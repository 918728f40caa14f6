"""An enclave of the nitro backend as its record has it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.nitro.records import (
    Record,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


RECORD = Record(
    name="first",
    started=NOW,
    detached=True,
    debug=False,
    memory_mib=1024,
    cpus=2,
    cid=None,
    port_in=5005,
    image=Path("/i/a.eif"),
    image_size=1000,
    image_sha256="ab" * 32,
    lock_sha256="ef" * 32,
    model_id="m",
    model_sha256="cd" * 32,
    pcrs={0: b"\1" * 48, 1: b"\2" * 48, 2: b"\3" * 48},
)
