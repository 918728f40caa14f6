from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enclave_payload.messages import MAX_DOCUMENT_BYTES, MAX_KEY_CONFIG_BYTES
from enclavectl.attestation import Standing, Trust
from enclavectl.client.exchange import PendingAnswer
from enclavectl.client.reply_keys import KEEP_S, PendingStore, Waiting
from enclavectl.errors import HostError, StateError
from enclavectl.files import stage_file
from enclavectl.protocol.evidence import Evidence
from enclavectl.protocol.media import MediaType

REQUEST_ID = bytes(range(24))
PENDING = PendingAnswer(
    request_id=REQUEST_ID,
    reply_key=bytes(range(32)),
    salt=bytes(range(32, 64)),
    picture_sha256=b"\xab" * 32,
    media_type=MediaType.PNG,
)
WAITING = Waiting(
    pending=PENDING,
    evidence=Evidence(b"document", b"key configuration"),
    requested_at=datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC),
    lock_sha256="ef" * 32,
    image="odd \n\udcff name.png",
    labels={"bcc": "Basal cell carcinoma"},
    notice="Not a diagnosis.",
    standing=Standing(
        module_id="i-0-enc1",
        timestamp=datetime(2026, 5, 4, 12, 0, 0, 123000, tzinfo=UTC),
        trust=Trust.DEBUG,
        release=None,
        root="test root",
        root_fingerprint="cd" * 32,
        pcrs=dict.fromkeys((0, 1, 2), bytes(48)),
    ),
)
STANDING: dict[str, object] = {
    "module_id": "i-0-enc1",
    "timestamp": "2026-05-04T12:00:00.123+00:00",
    "trust": "debug",
    "release": None,
    "root": "test root",
    "root_fingerprint": "cd" * 32,
    "pcrs": {},
}


THIRD = replace(PENDING, request_id=bytes([1]) * 24)


def path_of(state_dir: Path, request_id: bytes = REQUEST_ID) -> Path:
    return state_dir / "pending" / f"{request_id.hex()}.json"


def test_what_was_added_is_found_until_it_is_removed(tmp_path: Path) -> None:
    PendingStore(tmp_path).add(WAITING)
    store = PendingStore(tmp_path)  # as another process
    assert store.find(REQUEST_ID) == WAITING
    assert store.find(bytes(24)) is None
    store.remove(REQUEST_ID)
    assert store.find(REQUEST_ID) is None
    store.remove(REQUEST_ID)
    assert list((tmp_path / "pending").iterdir()) == []


def test_the_largest_evidence_and_the_longest_name_fit(tmp_path: Path) -> None:
    evidence = Evidence(bytes(MAX_DOCUMENT_BYTES), bytes(MAX_KEY_CONFIG_BYTES))
    labels = {f"{index:032}": "é" * 100 for index in range(64)}
    largest = replace(WAITING, evidence=evidence, image="\udcff" * 4096, labels=labels, notice="é" * 1000)
    store = PendingStore(tmp_path)
    store.add(largest)
    assert store.find(REQUEST_ID) == largest


def test_nothing_was_ever_sent(tmp_path: Path) -> None:
    assert PendingStore(tmp_path / "absent").find(REQUEST_ID) is None
    assert not (tmp_path / "absent").exists()


def test_only_the_user_can_read_the_keys(tmp_path: Path) -> None:
    os.umask(umask := os.umask(0))
    os.umask(0)
    try:
        PendingStore(tmp_path).add(WAITING)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "pending").stat().st_mode) == 0o700
    assert stat.S_IMODE(path_of(tmp_path).stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    store = PendingStore(tmp_path)
    store.add(WAITING)
    other = replace(PENDING, reply_key=bytes(32))
    with pytest.raises(HostError, match="expected nothing there, found a file"):
        store.add(replace(WAITING, pending=other))
    assert store.find(REQUEST_ID) == WAITING
    assert [path.name for path in (tmp_path / "pending").iterdir()] == [path_of(tmp_path).name]


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.add(replace(WAITING, pending=THIRD)),
        lambda store: store.find(bytes(24)),
        lambda store: PendingStore(store.folder.parent),
    ],
    ids=["send", "an answer that comes to listen", "listen"],
)
def test_whoever_uses_the_folder_forgets_keys_that_nobody_fetched_for_a_day(
    tmp_path: Path, use: Callable[[PendingStore], object]
) -> None:
    store = PendingStore(tmp_path)
    other = replace(WAITING, pending=replace(PENDING, request_id=bytes(24)))
    for waiting, seconds in ((WAITING, KEEP_S + 60), (other, KEEP_S - 60)):
        store.add(waiting)
        age(path_of(tmp_path, waiting.pending.request_id), seconds)
    use(store)
    assert not path_of(tmp_path).exists()
    assert store.find(bytes(24)) == other


def test_what_a_killed_send_left_half_written_is_removed_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    PendingStore(tmp_path).add(WAITING)
    with stage_file(tmp_path / "pending") as left, stage_file(tmp_path / "pending") as new:
        age(left.path, 3600)
        PendingStore(tmp_path)
        assert not left.path.exists()
        assert new.path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b"[" * 10_000,
        json.dumps({"schema": "enclavectl.pending/2", "reply_key": "00" * 32}).encode(),
    ],
)
def test_a_damaged_file_is_a_state_error_that_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    store = PendingStore(tmp_path)
    store.add(WAITING)
    path_of(tmp_path).write_bytes(content)
    with pytest.raises(StateError, match=r"damaged|expected enclavectl.pending/1") as info:
        store.find(REQUEST_ID)
    assert str(path_of(tmp_path)) in str(info.value.hint)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("reply_key", "00"), ("reply_key", "zz"), ("reply_key", 1), ("labels", []), ("schema", "other")),
        *(("salt", "00" * 31), ("salt", None), ("sha256", "ab"), ("media_type", "image/gif")),
        *(("document", "zz"), ("document", None), ("key_config", 1)),
        *(("standing", None), ("standing", {}), ("standing", {**STANDING, "trust": "certain"})),
        *(("standing", {**STANDING, "pcrs": {"zero": "00" * 48}}), ("standing", {**STANDING, "release": 1})),
    ],
)
def test_a_damaged_field_is_a_state_error(tmp_path: Path, field: str, value: object) -> None:
    store = PendingStore(tmp_path)
    store.add(WAITING)
    fields = json.loads(path_of(tmp_path).read_bytes())
    path_of(tmp_path).write_text(json.dumps({**fields, field: value}))
    with pytest.raises(StateError):
        store.find(REQUEST_ID)


@pytest.mark.parametrize("request_id", [b"", bytes(23), bytes(25), b"../../etc/passwd"])
def test_what_is_no_request_id_names_no_file(tmp_path: Path, request_id: bytes) -> None:
    with pytest.raises(ValueError, match="24 bytes"):
        PendingStore(tmp_path).find(request_id)
