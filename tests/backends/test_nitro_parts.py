"""The nitro backend's parts that need no process: records, states, time stamps, endings."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.backends.history import History
from enclavectl.backends.keeping.ending import EnclaveEnd, load_ended, write_ended
from enclavectl.backends.keeping.locks import lock_enclave
from enclavectl.backends.keeping.machine_inputs import free_name
from enclavectl.backends.keeping.timestamps import MAX_LINE, TimestampedLines
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.backends.machine import MachineEnclave
from enclavectl.backends.nitro.ending import EndObserver, keep_history
from enclavectl.backends.nitro.listing import join, module_id_of, owner_of, state_of
from enclavectl.backends.nitro.records import (
    LaunchRecord,
    Record,
    ask_to_end,
    is_asked_to_end,
    load_launched,
    load_record,
    write_launched,
)
from enclavectl.backends.nitro.settings import NitroSettings
from enclavectl.backends.state import EnclaveState
from enclavectl.errors import StateError
from enclavectl.files import make_private_dir
from enclavectl.net.address import HybridVsockAddress, VsockAddress
from enclavectl.nitro_cli.answers import Registers, RunInfo
from enclavectl.nitro_cli.describe_enclaves import DescribeInfo, NitroState
from enclavectl.nitro_cli.tool import EnclaveListing
from enclavectl.trust import Trust
from tests.backends.nitro_record import NOW, RECORD
from tests.backends.test_registry import enclave

RUN = RunInfo(enclave_id="i-0-enc1", name="first", process_id=1, cid=16, cpu_ids=(1, 3), memory_mib=1024)


TOLD = DescribeInfo(run=RUN, state=NitroState.RUNNING, debug=False, registers=Registers(values={"PCR0": "0"}))


SETTINGS = NitroSettings(state_dir=Path("/nowhere"), environ={}, port_in=5005)


def launch(folder: Path, record: Record = RECORD, info: RunInfo | None = RUN) -> LaunchRecord:
    made = folder / "enc1"
    make_private_dir(made)
    (made / "record.json").write_bytes(record.to_json())
    return LaunchRecord(made, record, info)


@pytest.mark.parametrize(
    "record", [RECORD, replace(RECORD, cid=16, model_id=None, model_sha256=None, lock_sha256=None)]
)
def test_records_survive_their_file(tmp_path: Path, record: Record) -> None:
    assert load_record(launch(tmp_path, record).folder) == record


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"schema": "other"}', b"\xff", b"[" * 9999])
def test_damaged_records_say_how_to_be_rid_of_them(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "record.json").write_bytes(data)
    with pytest.raises(StateError) as caught:
        load_record(tmp_path)
    assert "rm -r" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpus", "2"),
        ("cpus", 2.0),
        ("cpus", 0),
        ("cid", "16"),
        ("cid", 2**32),
        ("port_in", 5005.9),
        ("image", {"file": "a.eif", "size": "3", "sha256": "00"}),
        ("image", {"file": "a.eif", "size": 3.9, "sha256": "00"}),
        ("debug", 0),
        ("started", 12),
    ],
)
def test_a_value_of_another_type_is_not_coerced(tmp_path: Path, field: str, value: object) -> None:
    fields = json.loads(RECORD.to_json())
    (tmp_path / "record.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(StateError, match=field):
        load_record(tmp_path)


def test_facts_are_written_once_and_found(tmp_path: Path) -> None:
    assert (load_launched(tmp_path), load_ended(tmp_path), is_asked_to_end(tmp_path)) == (None, None, False)
    ended = EnclaveEnd(at=NOW, how="so")
    write_launched(tmp_path, RUN)
    write_ended(tmp_path, ended)
    ask_to_end(tmp_path)
    assert (load_launched(tmp_path), load_ended(tmp_path), is_asked_to_end(tmp_path)) == (RUN, ended, True)
    ask_to_end(tmp_path / "gone")


def test_nitro_clis_own_answer_is_enough(tmp_path: Path) -> None:
    (tmp_path / "launch.out").write_text('{"EnclaveID": "i-0-enc1", "ProcessID": 7')
    assert load_launched(tmp_path) is None  # half of it
    (tmp_path / "launch.out").write_text(json.dumps(RUN.to_json()) + "\nConnecting to the console")
    assert load_launched(tmp_path) == RUN


def test_states_with_a_keeper(tmp_path: Path) -> None:
    booting, running = launch(tmp_path, info=None), launch(tmp_path)
    lock = lock_enclave(running.folder)
    try:
        assert state_of(booting, None, unreachable=0) is EnclaveState.BOOTING
        assert state_of(running, TOLD, unreachable=0) is EnclaveState.RUNNING
        # A keeper that lives holds the process that holds the enclave.
        assert state_of(running, None, unreachable=0) is EnclaveState.RUNNING
        assert state_of(running, None, unreachable=1) is EnclaveState.UNKNOWN
        write_ended(running.folder, EnclaveEnd(at=NOW, how="so"))
        assert state_of(running, TOLD, unreachable=0) is EnclaveState.DEAD
    finally:
        os.close(lock)


def test_states_without_a_keeper(tmp_path: Path) -> None:
    alone = launch(tmp_path)
    assert state_of(alone, TOLD, unreachable=0) is EnclaveState.RUNNING
    assert state_of(alone, None, unreachable=1) is EnclaveState.UNKNOWN
    assert state_of(alone, None, unreachable=0) is EnclaveState.DEAD
    fresh = launch(tmp_path, replace(RECORD, started=datetime.now(UTC)), None)
    assert state_of(fresh, None, unreachable=0) is EnclaveState.DEAD  # it was never launched
    (fresh.folder / "launch.err").touch()
    assert state_of(fresh, None, unreachable=0) is EnclaveState.BOOTING
    old = replace(fresh, record=replace(RECORD, started=datetime.now(UTC) - timedelta(seconds=200)))
    assert state_of(old, None, unreachable=0) is EnclaveState.DEAD


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (NitroState.TERMINATING, EnclaveState.TERMINATING),
        (NitroState.EMPTY, EnclaveState.BOOTING),
        (NitroState.UNKNOWN, EnclaveState.UNKNOWN),
    ],
)
def test_nitro_clis_words_for_states(tmp_path: Path, told: NitroState, shown: EnclaveState) -> None:
    answer = replace(TOLD, state=told)
    assert state_of(launch(tmp_path), answer, unreachable=0) is shown
    (foreign,) = join([], EnclaveListing(enclaves=(answer,), unreachable=0), SETTINGS)
    assert foreign.state is shown


def test_ours_and_others_are_joined_by_id(tmp_path: Path) -> None:
    other = replace(TOLD, run=replace(RUN, enclave_id="i-0-enc2", name=None, cid=17))
    one, two = join([launch(tmp_path)], EnclaveListing(enclaves=(other, TOLD), unreachable=0), SETTINGS)
    assert (one.name, one.measured, one.trust) == ("first", RECORD.pcrs, Trust.NITRO)
    assert (two.name, two.measured, two.started) == ("i-0-enc2", None, None)
    assert (one.address, two.address) == (VsockAddress(16, 5005), VsockAddress(17, 5005))
    assert isinstance(one, MachineEnclave)
    assert one.machine.nitro_cli_pcrs == {"PCR0": "0"}
    assert one.to_json()["pcrs"] == {"0": "01" * 48, "1": "02" * 48, "2": "03" * 48}
    assert two.to_json()["pcrs"] == {}


def test_one_that_belonged_to_a_command_is_not_listed_dead(tmp_path: Path) -> None:
    mine = launch(tmp_path, replace(RECORD, detached=False))
    assert join([mine], EnclaveListing(enclaves=(), unreachable=0), SETTINGS) == []


def test_a_simulated_host_has_its_sockets_in_a_folder(tmp_path: Path) -> None:
    simulated = replace(SETTINGS, vsock_dir=tmp_path)
    assert simulated.address(16, 5005) == HybridVsockAddress(tmp_path / "16.vsock", 5005)


def test_owners() -> None:
    assert owner_of(os.getpid())
    assert owner_of(2**22 + 1) is None


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_stamping_keeps_every_byte_however_it_comes(pieces: list[bytes]) -> None:
    stamper = TimestampedLines(lambda: NOW)
    out = b"".join([*map(stamper.feed, pieces), stamper.flush()])
    lines = out.split(b"\n")[:-1]
    assert all(line.startswith(b"2026-11-24T12:00:00.000Z ") for line in lines)
    text = [line.partition(b"Z ")[2] for line in lines]
    whole = b"".join(pieces)
    expected = [line.rstrip(b"\r") for line in whole.split(b"\n")]
    assert text == (expected[:-1] if whole.endswith(b"\n") or not whole else expected)


def test_a_line_without_end_is_broken() -> None:
    stamper = TimestampedLines(lambda: NOW)
    assert stamper.feed(b"x" * MAX_LINE).count(b"\n") == 1
    assert stamper.flush() == b""


def test_how_an_enclave_ended(tmp_path: Path) -> None:
    one = launch(tmp_path)
    ending = EndObserver(one.folder, RECORD, replace(RUN, process_id=77), tmp_path)
    assert "vanished" in ending.describe().how
    line = (
        "[enc-1:{}][WARN][{}][f] Received hang-up event from the enclave. Enclave process will shut down.\n"
    )
    log = tmp_path / "nitro_enclaves.log"
    log.write_text(line.format(78, "2026-11-24T12:00:01.123Z"))
    assert "vanished" in ending.describe().how
    # An enclave before it, whose process had the same number.
    log.write_text(line.format(77, "2026-11-24T11:59:59.999Z"))
    assert "vanished" in ending.describe().how
    log.write_text(line.format(78, "2026-11-24T12:00:00.000Z") + line.format(77, "2026-11-24T12:00:00.000Z"))
    assert "by itself" in ending.describe().how
    # Its folder is open to a whole group, who can put in its place what nobody ever writes to.
    log.unlink()
    os.mkfifo(log)
    assert "vanished" in ending.describe().how
    ask_to_end(one.folder)
    assert ending.describe().how == "terminated by enclavectl"


def test_a_configured_root_of_aws_leaves_the_trust_at_nitro(tmp_path: Path) -> None:
    """As in GovCloud, whose root the operator brings; a development root is what it is on any other host."""
    assert (SETTINGS.trust(debug=False), SETTINGS.trust(debug=True)) == (Trust.NITRO, Trust.DEBUG)
    pem = files("enclavectl.attestation") / "roots" / "aws-nitro-g1.pem"
    (tmp_path / "aws.pem").write_bytes(pem.read_bytes())
    (tmp_path / "own.pem").write_bytes(DevelopmentRoot.create(NOW).certificate_pem)
    aws = replace(SETTINGS, root=tmp_path / "aws.pem")
    assert (aws.trust(debug=False), aws.trust(debug=True)) == (Trust.NITRO, Trust.DEBUG)
    assert (aws.trust_root().trust, aws.trust_root().name) == (Trust.NITRO, "aws")
    own = replace(SETTINGS, root=tmp_path / "own.pem")
    assert (own.trust(debug=False), own.trust_root().trust) == (Trust.SIMULATED, Trust.SIMULATED)


def test_what_is_kept_of_one_that_nobody_saw_end(tmp_path: Path) -> None:
    one = launch(tmp_path / "e", info=None)
    (one.folder / "console.log").write_bytes(b"last words\n")
    keep_history(tmp_path / "state", one.folder, trust="nitro")
    (past,) = History(tmp_path / "state").all()
    assert (past.ended, past.console, past.enclave_id) == (None, "last words\n", "enc1")
    assert "nobody" in past.how


@pytest.mark.parametrize(
    ("printed", "attested"),
    [
        ("i-0abc-enc1904e4fea1636f6", "i-0abc-enc01904e4fea1636f6"),
        ("i-0abc-enc891904e4fea1636f", "i-0abc-enc891904e4fea1636f"),
        ("i-0abc-enc1", "i-0abc-enc0000000000000001"),
        ("something else", "something else"),
    ],
)
def test_documents_write_the_slot_with_all_its_zeros(printed: str, attested: str) -> None:
    assert module_id_of(printed) == attested


def test_a_name_that_is_taken_is_refused_and_an_image_s_own_name_makes_way() -> None:
    source = Path("/images/app v2.eif")
    assert free_name(None, source, []) == "app-v2"
    known = [enclave("app-v2", "1"), enclave("app-v2-2", "2")]
    assert free_name(None, source, known) == "app-v2-3"
    assert free_name("other", source, known) == "other"
    with pytest.raises(StateError, match="app-v2: an enclave of this name exists already"):
        free_name("app-v2", source, known)
