from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enclavectl.backends.keeping.folders import remove_enclave
from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.keeping.locks import exclusive, is_kept, lock_enclave
from enclavectl.backends.local.backend import LocalBackend
from enclavectl.backends.local.records import Record, load_record
from enclavectl.backends.local.root import ensure_root, load_root
from enclavectl.errors import HostError, StateError, UsageError
from enclavectl.files import make_private_dir

RECORD = Record(
    name="first",
    started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    supervisor=ProcessIdentity(pid=4711, started_ticks=12, boot_id="b"),
    detached=True,
    debug=False,
    memory_mib=512,
    model_id="demo",
    model_sha256="ab" * 32,
    pcrs={0: b"\3" * 48, 1: b"\1" * 48, 2: b"\2" * 48},
)


def write_record(folder: Path, record: Record = RECORD) -> None:
    make_private_dir(folder)
    (folder / "record.json").write_bytes(record.to_json())


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, detached=False, debug=True, pcrs={})])
def test_a_record_is_read_as_it_was_written(tmp_path: Path, record: Record) -> None:
    write_record(tmp_path / "e", record)
    assert load_record(tmp_path / "e") == record


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"null", b"1", b"{}", b"[" * 10_000, RECORD.to_json()[:-20]]
)
def test_a_damaged_record_is_a_state_error_that_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(StateError, match=r"record\.json") as info:
        load_record(tmp_path)
    assert str(tmp_path) in str(info.value.hint)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "other"),
        ("started", "yesterday"),
        ("started", "2026-01-02T03:04:05"),  # of no time zone
        ("supervisor", 4711),
        ("supervisor", {"pid": "3", "started_ticks": 1, "boot_id": "b"}),
        ("supervisor", {"pid": 3.9, "started_ticks": 1, "boot_id": "b"}),
        ("memory_mib", "512"),
        ("memory_mib", 512.5),
        ("memory_mib", True),
        ("detached", 1),
        ("detached", "false"),
        ("name", 7),
        ("model", []),
        ("pcrs", {"0": "zz"}),
        ("pcrs", {"0": "00"}),
        ("pcrs", {"32": "00" * 48}),
        ("pcrs", {" 1": "00" * 48}),
    ],
)
def test_a_damaged_field_is_a_state_error(tmp_path: Path, field: str, value: object) -> None:
    fields = json.loads(RECORD.to_json())
    (tmp_path / "record.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(StateError):
        load_record(tmp_path)


def test_a_record_with_a_key_twice_is_a_state_error(tmp_path: Path) -> None:
    text = RECORD.to_json().decode()
    (tmp_path / "record.json").write_text(text.replace('"debug": false', '"debug": false, "debug": true'))
    with pytest.raises(StateError, match="twice"):
        load_record(tmp_path)


def test_no_record_is_a_state_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no such enclave record"):
        load_record(tmp_path)


def test_an_enclave_runs_as_long_as_its_lock_is_held(tmp_path: Path) -> None:
    assert not is_kept(tmp_path)
    lock = lock_enclave(tmp_path)
    assert is_kept(tmp_path)
    heir = os.dup(lock)  # as a supervisor inherits it
    os.close(lock)
    assert is_kept(tmp_path)
    os.close(heir)
    assert not is_kept(tmp_path)
    os.close(lock_enclave(tmp_path))  # looking did not take it


def test_removing_twice_is_no_error(tmp_path: Path) -> None:
    write_record(tmp_path / "e")
    remove_enclave(tmp_path / "e")
    remove_enclave(tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_the_exclusive_block_is_exclusive(tmp_path: Path) -> None:
    order: list[str] = []
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with exclusive(tmp_path):
            order.append("second")

    with exclusive(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_root_is_made_once_and_only_its_owner_reads_the_key(tmp_path: Path) -> None:
    folder = tmp_path / "root"
    threads = [threading.Thread(target=ensure_root, args=(folder,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = load_root(folder)
    ensure_root(folder)
    assert load_root(folder).certificate == made.certificate
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    ensure_root(tmp_path / "root")
    (tmp_path / "root" / "key.pem").chmod(0o640)
    with pytest.raises(HostError, match="expected mode 0600, found 0640"):
        load_root(tmp_path / "root")


def test_halves_of_different_roots_are_not_a_root(tmp_path: Path) -> None:
    ensure_root(tmp_path / "a")
    ensure_root(tmp_path / "b")
    (tmp_path / "b" / "key.pem").replace(tmp_path / "a" / "key.pem")
    with pytest.raises(UsageError, match="does not belong"):
        load_root(tmp_path / "a")


def test_the_backend_lists_the_dead_that_were_detached_and_no_others(tmp_path: Path) -> None:
    enclaves = tmp_path / "local" / "enclaves"
    write_record(enclaves / "enc0000000000000002", replace(RECORD, name="later", started=datetime.now(UTC)))
    write_record(enclaves / "enc0000000000000001")
    write_record(enclaves / "enc0000000000000003", replace(RECORD, detached=False))
    (enclaves / "enc0000000000000004").mkdir()
    (enclaves / "something else").mkdir()
    found = LocalBackend(tmp_path).enclaves()
    assert [(one.name, one.state, one.pid) for one in found] == [
        ("first", "DEAD", None),
        ("later", "DEAD", None),
    ]


def test_nothing_was_ever_run(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "absent")
    assert backend.enclaves() == []
    with pytest.raises(UsageError, match="no such development root"):
        backend.trust_root()
    assert not (tmp_path / "absent").exists()


def test_a_damaged_record_is_not_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "local" / "enclaves" / "enc0000000000000001"
    write_record(folder)
    (folder / "record.json").write_bytes(b"{")
    with pytest.raises(StateError, match="enc0000000000000001"):
        LocalBackend(tmp_path).enclaves()


def test_a_state_folder_that_is_none_is_a_host_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot be read"):
        LocalBackend(tmp_path / "file").enclaves()
