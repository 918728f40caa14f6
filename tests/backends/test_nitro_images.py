"""The nitro backend's copies of images: held to their lock, never changed, gone with their last enclave."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclavectl.artifacts.lock import Lock
from enclavectl.artifacts.names import LOCK_NAME
from enclavectl.backends.keeping.images import admit_image, check_memory, image_to_run
from enclavectl.backends.keeping.locks import lock_enclave
from enclavectl.backends.nitro.images import prune, remove_unused
from enclavectl.eif.errors import EifError
from enclavectl.errors import StateError, UsageError
from enclavectl.files import make_private_dir
from enclavectl.progress import NoProgress
from tests.backends.nitro_record import NOW, RECORD
from tests.eif import samples


def lock_of(registers: dict[str, str], sha256: str, size: int) -> Lock:
    return Lock(
        eif={"file": "a.eif", "sha256": sha256, "size": size},
        pcrs=registers,
        mode="native",
        image={},
        model={"id": "m", "sha256": "00"},
        wheels=(),
        blobs={},
        tools={},
        findings=(),
        allowed={},
    )


def test_what_is_launched_is_a_copy_that_nobody_changes(tmp_path: Path) -> None:
    source, store = tmp_path / "a.eif", tmp_path / "store"
    source.write_bytes(samples.image())
    image = admit_image(source, store, now=NOW, progress=NoProgress())
    source.write_bytes(b"rebuilt in place")
    assert image.path.read_bytes() == samples.image()
    assert image.path.stat().st_mode & 0o777 == 0o400
    assert image.path.name == f"a-{image.pcrs[0].hex()[:16]}-{image.sha256[:8]}.eif"
    assert (image.model, image.size) == (None, len(samples.image()))
    source.write_bytes(samples.image())
    assert admit_image(source, store, now=NOW, progress=NoProgress()).path == image.path
    assert [path.name for path in store.iterdir()] == [image.path.name]
    remove_unused(store, [replace(RECORD, image=image.path)])
    assert image.path.exists()
    remove_unused(store, [RECORD])
    assert not image.path.exists()
    remove_unused(tmp_path / "absent", [])


def test_an_image_is_held_to_the_lock_beside_it(tmp_path: Path) -> None:
    source, store = tmp_path / "a.eif", tmp_path / "store"
    source.write_bytes(samples.image())
    good = admit_image(source, store, now=NOW, progress=NoProgress())
    registers = {f"PCR{index}": value.hex() for index, value in good.pcrs.items()}
    (tmp_path / LOCK_NAME).write_bytes(lock_of(registers, good.sha256, good.size).to_bytes())
    held = admit_image(source, store, now=NOW, progress=NoProgress())
    assert (held.model, held.pcrs) == (("m", "00"), good.pcrs)
    lock_sha256 = sha256((tmp_path / LOCK_NAME).read_bytes()).hexdigest()
    assert (good.lock_sha256, held.lock_sha256) == (None, lock_sha256)
    pinned = {**registers, "PCR16": "ab" * 48}
    (tmp_path / LOCK_NAME).write_bytes(lock_of(pinned, good.sha256, good.size).to_bytes())
    held = admit_image(source, store, now=NOW, progress=NoProgress())
    assert held.pcrs == {**good.pcrs, 16: b"\xab" * 48}
    (tmp_path / LOCK_NAME).write_bytes(
        lock_of({**registers, "PCR2": "00" * 48}, good.sha256, good.size).to_bytes()
    )
    with pytest.raises(StateError, match="PCR2") as caught:
        admit_image(source, store, now=NOW, progress=NoProgress())
    assert caught.value.code == "lock-pcrs"
    (tmp_path / LOCK_NAME).write_bytes(lock_of(registers, "00" * 32, good.size).to_bytes())
    with pytest.raises(StateError) as caught:
        admit_image(source, store, now=NOW, progress=NoProgress())
    assert caught.value.code == "lock-file"
    source.rename(tmp_path / "b.eif")  # the lock is about another file
    other = admit_image(tmp_path / "b.eif", store, now=NOW, progress=NoProgress())
    assert (other.model, other.lock_sha256) == (None, None)


def test_a_lock_stays_with_its_image_under_another_name(tmp_path: Path) -> None:
    # As in the image of a fleet's pods, where every enclave image is called enclave.eif.
    source, store = tmp_path / "a.eif", tmp_path / "store"
    source.write_bytes(samples.image())
    good = admit_image(source, store, now=NOW, progress=NoProgress())
    registers = {f"PCR{index}": value.hex() for index, value in good.pcrs.items()}
    pinned = {**registers, "PCR16": "ab" * 48}
    (tmp_path / LOCK_NAME).write_bytes(lock_of(pinned, good.sha256, good.size).to_bytes())
    source.rename(tmp_path / "enclave.eif")
    held = admit_image(tmp_path / "enclave.eif", store, now=NOW, progress=NoProgress())
    assert (held.model, held.pcrs[16]) == (("m", "00"), b"\xab" * 48)


def test_an_image_that_is_damaged_leaves_nothing(tmp_path: Path) -> None:
    source, store = tmp_path / "a.eif", tmp_path / "store"
    data = bytearray(samples.image())
    data[-1] ^= 1
    source.write_bytes(bytes(data))
    with pytest.raises(EifError) as caught:
        admit_image(source, store, now=NOW, progress=NoProgress())
    assert "a.eif" in caught.value.message
    assert "eif verify" in str(caught.value.hint)
    assert list(store.iterdir()) == []
    with pytest.raises(UsageError, match="no such image"):
        admit_image(tmp_path / "absent", store, now=NOW, progress=NoProgress())


class Notes(NoProgress):
    """Keeps what a person would read."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_an_image_with_more_than_a_certificate_in_its_signature_runs_with_a_warning(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = samples.certificate(key, start=NOW, days=365)
    for extra, words in ((b"\n", "only the first certificate counts"), (samples.key_pem(key), "PRIVATE KEY")):
        (tmp_path / "a.eif").write_bytes(samples.signed_image(key, certificate + extra))
        notes = Notes()
        image = admit_image(tmp_path / "a.eif", tmp_path / "store", now=NOW, progress=notes)
        assert 8 in image.pcrs
        assert any(words in text and "eif sign" in text for text in notes.texts)


def test_memory_is_at_least_four_times_the_image() -> None:
    check_memory(256 << 20, 1024)
    with pytest.raises(UsageError, match="at least 1028 MiB") as caught:
        check_memory((256 << 20) + 1, 1024)
    assert "--memory 1028" in str(caught.value.hint)


def test_the_image_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StateError, match="found no enclave") as caught:
        image_to_run(None)
    assert caught.value.code == "no-image"
    (tmp_path / "enclave.eif").touch()
    assert image_to_run(None) == tmp_path / "enclave.eif"
    assert image_to_run(Path("other.eif")) == tmp_path / "other.eif"


def test_what_a_killed_start_left_is_gone_with_the_next_end(tmp_path: Path) -> None:
    images, enclaves = tmp_path / "images", tmp_path / "enclaves"
    for name in ("enc1", "enc2"):
        make_private_dir(enclaves / name)
        (enclaves / name / "lock").touch()
    images.mkdir(mode=0o700)
    half = images / ".enclavectl-0123456789abcdef.tmp"
    half.write_bytes(b"half of an image")
    lock = lock_enclave(enclaves / "enc2")  # one that is just being made
    try:
        prune(tmp_path, NoProgress())
    finally:
        os.close(lock)
    assert [*images.iterdir()] == []
    assert [path.name for path in enclaves.iterdir()] == ["enc2"]
    half.write_bytes(b"half of an image")
    (tmp_path / "a.eif").write_bytes(samples.image())
    admitted = admit_image(tmp_path / "a.eif", images, now=NOW, progress=NoProgress())
    assert [*images.iterdir()] == [admitted.path]
