"""A state folder that somebody else prepared: nothing in it is believed, and nobody's process is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enclavectl.backends.history import History, HistoryEntry
from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.keeping.locks import is_kept
from enclavectl.backends.local.backend import LocalBackend
from enclavectl.backends.local.records import Record
from enclavectl.backends.local.root import ensure_root, load_root
from enclavectl.backends.nitro.records import read_launch_records
from enclavectl.client.reply_keys import PendingStore
from enclavectl.errors import HostError
from tests.backends.nitro_record import RECORD as NITRO_RECORD

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")

STRANGER = 1000
FOLDER = "enc0000000000000001"
RECORD = Record(
    name="first",
    started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    supervisor=ProcessIdentity(pid=1, started_ticks=1, boot_id="b"),
    detached=True,
    debug=False,
    memory_mib=512,
    model_id="demo",
    model_sha256="ab" * 32,
    pcrs={0: b"\3" * 48},
)
ENTRY = HistoryEntry(
    enclave_id="enc1",
    name="first",
    backend="local",
    trust="simulated",
    started=RECORD.started,
    ended=None,
    how="so",
    model_id=None,
    pcrs={},
    console="",
)


def prepare(state: Path) -> None:
    """A whole state folder: enclaves of both backends, a root, a history, a reply key."""
    for backend, data in (("local", RECORD.to_json()), ("nitro", NITRO_RECORD.to_json())):
        folder = state / backend / "enclaves" / FOLDER
        folder.mkdir(parents=True)
        (folder / "record.json").write_bytes(data)
        (folder / "console.log").write_bytes(b"hello")
    for folder in [state, *(path for path in state.rglob("*") if path.is_dir())]:
        folder.chmod(0o700)
    ensure_root(state / "local" / "root")
    History(state).add(ENTRY)
    (state / "pending").mkdir(mode=0o700)
    (state / "pending" / f"{'00' * 24}.json").write_text("{}")


def give(path: Path) -> None:
    """Make ``path`` and everything in it a stranger's."""
    for one in [path, *path.rglob("*")]:
        os.chown(one, STRANGER, STRANGER, follow_symlinks=False)


def request_id(state: Path) -> bytes:
    (name,) = (path.stem for path in (state / "pending").iterdir())
    return bytes.fromhex(name)


READERS: dict[str, Callable[[Path], object]] = {
    "list": lambda state: LocalBackend(state).enclaves(),
    "list-nitro": lambda state: read_launch_records(state / "nitro" / "enclaves"),
    "trust-root": lambda state: LocalBackend(state).trust_root(),
    "supervisor-root": lambda state: load_root(state / "local" / "root"),
    "make-root": lambda state: ensure_root(state / "local" / "root"),
    "history": lambda state: History(state).all(),
    "logs": lambda state: History(state).find("first"),
    "remember": lambda state: History(state).add(replace(ENTRY, enclave_id="enc2")),
    "listen-address": lambda state: LocalBackend(state).outbound_address(5006),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_a_stranger_prepared_is_not_read(tmp_path: Path, reader: str) -> None:
    prepare(tmp_path / "state")
    READERS[reader](tmp_path / "state")  # ours is
    give(tmp_path / "state")
    with pytest.raises(HostError, match=f"of user {STRANGER}"):
        READERS[reader](tmp_path / "state")


@pytest.mark.parametrize("reader", READERS)
def test_nor_is_what_lies_in_a_folder_that_a_stranger_may_rename(tmp_path: Path, reader: str) -> None:
    outer = tmp_path / "outer"
    prepare(outer / "state")
    READERS[reader](outer / "state")
    outer.chmod(0o777)
    with pytest.raises(HostError, match="outer with mode 0777"):
        READERS[reader](outer / "state")


def test_a_reply_key_that_a_stranger_prepared_is_not_used(tmp_path: Path) -> None:
    prepare(tmp_path / "state")
    give(tmp_path / "state")
    with pytest.raises(HostError, match=f"of user {STRANGER}"):
        PendingStore(tmp_path / "state").find(request_id(tmp_path / "state"))


def test_the_console_and_the_end_of_a_prepared_enclave_are_refused(tmp_path: Path) -> None:
    prepare(tmp_path / "state")
    backend = LocalBackend(tmp_path / "state")
    (enclave,) = backend.enclaves()
    give(tmp_path / "state")
    with pytest.raises(HostError, match=f"of user {STRANGER}"):
        list(backend.console(enclave, follow=False))
    with pytest.raises(HostError, match=f"of user {STRANGER}"):
        backend.terminate(enclave)


@pytest.fixture
def innocent(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with enclaves, and holds the lock of one."""
    prepare(tmp_path / "state")
    folder = tmp_path / "state" / "local" / "enclaves" / FOLDER
    code = (
        "import fcntl, sys, time\n"
        "with open(sys.argv[1], 'ab') as file:\n"
        "    fcntl.flock(file, fcntl.LOCK_EX)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder / "lock")]) as process:
        while not is_kept(folder):
            assert process.poll() is None
        yield process
        process.kill()


def write_identity(state: Path, identity: ProcessIdentity) -> None:
    path = state / "local" / "enclaves" / FOLDER / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "supervisor": identity.to_json()}))


@pytest.mark.parametrize("wrong", ["start", "boot"])
def test_a_number_in_a_record_ends_no_other_process(
    tmp_path: Path, innocent: subprocess.Popen[bytes], wrong: str
) -> None:
    """The record's supervisor is gone, and its number is another process's now."""
    identity = ProcessIdentity.of(innocent.pid)
    if wrong == "start":
        identity = identity._replace(started_ticks=identity.started_ticks - 1)
    else:
        identity = identity._replace(boot_id="another")
    write_identity(tmp_path / "state", identity)
    backend = LocalBackend(tmp_path / "state", end_s=0.05)
    (enclave,) = backend.enclaves()
    with pytest.raises(HostError, match="did not end"):
        backend.terminate(enclave)
    assert innocent.poll() is None


def test_the_process_that_the_record_means_is_ended(
    tmp_path: Path, innocent: subprocess.Popen[bytes]
) -> None:
    write_identity(tmp_path / "state", ProcessIdentity.of(innocent.pid))
    backend = LocalBackend(tmp_path / "state")
    (enclave,) = backend.enclaves()
    backend.terminate(enclave)
    assert innocent.wait(60) == -signal.SIGTERM
    assert backend.enclaves() == []
