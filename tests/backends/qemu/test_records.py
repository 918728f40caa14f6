"""The records of the qemu backend: what a launch wrote is what every later command reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.qemu.records import Record, load_record
from enclavectl.errors import StateError
from enclavectl.files import make_private_dir

RECORD = Record(
    name="first",
    started=datetime(2026, 11, 24, 12, tzinfo=UTC),
    detached=True,
    debug=False,
    memory_mib=1024,
    model_id="m",
    model_sha256="cd" * 32,
    pcrs={0: b"\1" * 48, 16: b"\2" * 48},
    supervisor=ProcessIdentity(pid=4711, started_ticks=12, boot_id="b"),
    cpus=2,
    cid=16,
    port_in=5005,
    image=Path("/i/a.eif"),
    lock_sha256="ef" * 32,
    accelerator="tcg",
)


@pytest.mark.parametrize(
    "record", [RECORD, replace(RECORD, lock_sha256=None, model_id=None, model_sha256=None)]
)
def test_a_record_is_read_as_it_was_written(tmp_path: Path, record: Record) -> None:
    make_private_dir(tmp_path / "e")
    (tmp_path / "e" / "record.json").write_bytes(record.to_json())
    assert load_record(tmp_path / "e") == record


def test_the_hash_of_a_lock_is_no_other_text(tmp_path: Path) -> None:
    make_private_dir(tmp_path / "e")
    (tmp_path / "e" / "record.json").write_bytes(replace(RECORD, lock_sha256="a lock").to_json())
    with pytest.raises(StateError, match="lock_sha256: expected 64 lower-case hex digits"):
        load_record(tmp_path / "e")
