"""The lock: one form, total reading, and a check that says what moved."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import MAX_CARD_BYTES, model_register
from enclavectl.artifacts.lock import MODEL_REGISTER, Lock, parse_lock, read_lock
from enclavectl.artifacts.locked_image import check_lock
from enclavectl.artifacts.wheel import Wheel
from enclavectl.eif.examine import read_verified
from enclavectl.eif.format import SectionKind
from enclavectl.errors import HostError, StateError, UsageError
from tests.eif import samples

LOCK = Lock(
    eif={"file": "a.eif", "sha256": "0" * 64, "size": 1},
    pcrs={"PCR0": "00"},
    mode="reproducible",
    image={"id": "sha256:" + "0" * 64, "base": {}},
    model={"id": "demo", "sha256": "0" * 64},
    wheels=(Wheel(name="x", version="1", file="x-1-py3-none-any.whl", sha256="0" * 64),),
    blobs={"kernel": "0" * 64, "cmdline": "quiet"},
    tools={"enclavectl": "0"},
    findings=({"rule": "hard-links", "where": "layer 1: /a", "message": "twice", "blocking": False},),
    allowed={"memory": "a test"},
)
NAMES = st.text(max_size=8)
TEXTS = st.dictionaries(NAMES, NAMES, max_size=3)
WHEELS = st.builds(
    Wheel, name=NAMES, version=NAMES, file=st.sampled_from(["a.whl", "b.whl"]), sha256=st.just("0" * 64)
)


@given(
    st.builds(
        Lock,
        eif=st.just({"file": "a.eif", "sha256": "0" * 64, "size": 1}),
        pcrs=TEXTS,
        mode=NAMES,
        image=TEXTS,
        model=st.none() | TEXTS,
        wheels=st.lists(WHEELS, max_size=3).map(tuple),
        blobs=TEXTS,
        tools=TEXTS,
        findings=st.lists(TEXTS, max_size=2).map(tuple),
        allowed=TEXTS,
    )
)
def test_what_is_written_is_read(lock: Lock) -> None:
    assert parse_lock(json.dumps(lock.to_json()).encode(), "lock") == lock


@given(
    st.sampled_from(sorted(LOCK.to_json())),
    st.sampled_from([None, 1, "x", [], [1], {}, {"a": 1}, [{"a": 1}]]),
)
def test_any_other_value_is_a_lock_or_a_usage_error(key: str, value: object) -> None:
    data = json.dumps({**LOCK.to_json(), key: value}).encode()
    try:
        lock = parse_lock(data, "lock")
    except UsageError:
        return
    assert lock.to_json()[key] == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        json.dumps({**LOCK.to_json(), "more": 1}).encode(),
        json.dumps({key: value for key, value in LOCK.to_json().items() if key != "pcrs"}).encode(),
        json.dumps(LOCK.to_json()).encode() + b"x",
        json.dumps(LOCK.to_json()).encode()[:-1] + b', "mode": "x"}',
    ],
)
def test_what_is_no_lock_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        parse_lock(data, "lock")


def test_a_lock_cannot_name_a_wheel_outside_the_store() -> None:
    value = LOCK.to_json()
    value["wheels"] = [{"name": "x", "version": "1", "file": "../x.whl", "sha256": "0"}]
    with pytest.raises(UsageError, match="wheels"):
        parse_lock(json.dumps(value).encode(), "lock")


def locked_image(folder: Path, data: bytes | None = None) -> tuple[Lock, Path]:
    import hashlib

    image = folder / "out" / "a.eif"
    image.parent.mkdir()
    image.write_bytes(samples.image() if data is None else data)
    with image.open("rb") as file:
        pcrs = read_verified(file).measurements.registers()
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    path = folder / "enclavectl.lock.json"
    eif = {"file": os.path.relpath(image, folder), "sha256": digest, "size": image.stat().st_size}
    path.write_bytes(replace(LOCK, eif=eif, pcrs=pcrs).to_bytes())
    return read_lock(path), path


def test_the_locked_image_is_found_from_the_lock_and_matches(tmp_path: Path) -> None:
    lock, path = locked_image(tmp_path)
    assert lock.eif["file"] == "out/a.eif"
    assert check_lock(lock, path).pcrs == lock.pcrs


CARD_PATH = "rootfs/usr/lib/python3/site-packages/enclave_payload/model/model.json"
CARD = b'{"id":"demo"}'


def pinned(lock: Lock, card: bytes = CARD) -> Lock:
    return replace(lock, pcrs={**lock.pcrs, MODEL_REGISTER: model_register(card).hex()})


def image_with(*ramdisks: bytes) -> bytes:
    return samples.image([*samples.sections(ramdisks=0), *((SectionKind.RAMDISK, one) for one in ramdisks)])


def test_the_models_register_is_computed_from_the_card_in_the_image(tmp_path: Path) -> None:
    data = image_with(samples.cpio(b"i"), samples.cpio(b"a", {CARD_PATH: CARD}))
    lock, path = locked_image(tmp_path, data)
    assert lock.model_register is None
    assert check_lock(lock, path).pcrs == lock.pcrs, "a lock of an older build has no register to compare"
    assert check_lock(pinned(lock), path).pcrs == pinned(lock).pcrs
    with pytest.raises(StateError, match="PCR16 differ from the lock") as caught:
        check_lock(pinned(lock, b"{}"), path)
    assert caught.value.code == "lock-pcrs"
    assert model_register(CARD).hex() in caught.value.message


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"rootfs/model.json": CARD},
        {CARD_PATH: CARD, f"rootfs/opt/{CARD_PATH}": CARD},
        {CARD_PATH: CARD + b" " * MAX_CARD_BYTES},
    ],
)
def test_without_one_card_no_register_is_confirmed(tmp_path: Path, files: dict[str, bytes]) -> None:
    lock, path = locked_image(tmp_path, image_with(samples.cpio(b"i"), samples.cpio(b"a", files)))
    with pytest.raises(StateError, match="PCR16 is absent") as caught:
        check_lock(pinned(lock), path)
    assert caught.value.code == "lock-pcrs"


@pytest.mark.parametrize("register", ["", "ab", "AB" * 48, "ab" * 47, "ab" * 49, "0" * 96])
def test_a_register_that_no_policy_can_pin_is_refused(register: str) -> None:
    value = replace(LOCK, pcrs={**LOCK.pcrs, MODEL_REGISTER: register})
    with pytest.raises(UsageError, match="PCR16"):
        parse_lock(value.to_bytes(), "lock")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PCR0", "zz" * 48),
        ("PCR0", "00"),
        ("PCR0", ""),
        ("PCR32", "ab" * 48),
        ("PCR08", "ab" * 48),
        ("x", ""),
    ],
)
def test_what_is_no_register_is_named(name: str, value: str) -> None:
    lock = replace(LOCK, pcrs={"PCR1": "ab" * 48, name: value})
    with pytest.raises(UsageError, match=f"^a.json: pcrs: .* found {name} with '{value}'$"):
        lock.registers("a.json")


def test_the_registers_of_a_lock_have_those_of_the_code() -> None:
    code = {f"PCR{index}": f"{index}a" * 48 for index in (0, 1, 2)}
    lock = replace(LOCK, pcrs={**code, "PCR31": "aB" * 48})
    assert lock.registers("a.json") == {0: b"\x0a" * 48, 1: b"\x1a" * 48, 2: b"*" * 48, 31: b"\xab" * 48}
    for name in code:
        rest = {one: value for one, value in code.items() if one != name}
        with pytest.raises(UsageError, match=f"a.json: pcrs: .* found no {name}$"):
            replace(LOCK, pcrs=rest).registers("a.json")


def test_another_image_says_which_registers_moved(tmp_path: Path) -> None:
    lock, path = locked_image(tmp_path)
    parts = samples.sections()
    parts[4] = (SectionKind.RAMDISK, samples.cpio(b"z"))
    (tmp_path / "out" / "a.eif").write_bytes(samples.image(parts))
    with pytest.raises(StateError, match="PCR0, PCR2 differ") as caught:
        check_lock(lock, path)
    assert caught.value.code == "lock-pcrs"


def test_the_same_registers_in_another_file_are_another_image(tmp_path: Path) -> None:
    lock, path = locked_image(tmp_path)
    parts = samples.sections()
    metadata = replace(samples.METADATA, image_name="other")
    parts[2] = (SectionKind.METADATA, metadata.to_bytes())
    (tmp_path / "out" / "a.eif").write_bytes(samples.image(parts))
    with pytest.raises(StateError) as caught:
        check_lock(lock, path)
    assert caught.value.code == "lock-file"


def test_a_lost_image_is_said_to_be_lost(tmp_path: Path) -> None:
    lock, path = locked_image(tmp_path)
    (tmp_path / "out" / "a.eif").unlink()
    with pytest.raises(StateError) as caught:
        check_lock(lock, path)
    assert caught.value.code == "lock-image"


def test_a_lock_that_is_not_there_is_told_with_how_one_comes_about(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such lock") as caught:
        read_lock(tmp_path / "enclavectl.lock.json")
    assert "enclavectl build" in str(caught.value.hint)
    with pytest.raises(UsageError, match="cannot read this lock"):
        read_lock(tmp_path / ("x" * 300))


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"^/proc/self/mem: reading failed"):
        check_lock(LOCK, tmp_path / "lock.json", image=Path("/proc/self/mem"))
