"""Differences and their causes, on images built by the writer."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclavectl.eif.compare.cause import ChangeKind
from enclavectl.eif.compare.diff import Difference, compare_images
from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import read_image, read_verified
from enclavectl.eif.file_range import bytes_range
from enclavectl.eif.format import SectionKind
from enclavectl.eif.ramdisk.cpio import TRAILER, CpioEntry, CpioWriter
from enclavectl.eif.ramdisk.ramdisks import Mode, application_entries, write_ramdisk
from enclavectl.eif.sign import load_signer
from tests.eif.samples import (
    CMDLINE,
    METADATA,
    NOW,
    bzimage,
    certificate,
    cpio,
    directory,
    image,
    key_pem,
    read_export,
    symlink,
    tar,
    text,
)

SITE = "usr/lib/python3/site-packages"
PAYLOAD = f"{SITE}/enclave_payload"
BASE = {
    "app/model.tflite": b"weights",
    "app/main": b"main",
    f"{SITE}/numpy/core.py": b"1",
    f"{SITE}/numpy-1.26.4.dist-info/RECORD": b"1",
    "var/lib/dpkg/info/libc6.list": b"x",
    f"{PAYLOAD}/server.py": b"1",
    f"{PAYLOAD}/model/model.tflite": b"weights",
    f"{PAYLOAD}/model/model.json": b"{}",
}


def ramdisk(files: dict[str, bytes], **fields: object) -> bytes:
    folders = sorted(
        {"/".join(name.split("/")[:end]) for name in files for end in range(1, name.count("/") + 1)}
    )
    members = [directory(name) for name in folders] + [
        text(name, data, **fields) for name, data in files.items()
    ]
    out = io.BytesIO()
    entries = read_export(bytes_range(tar(members)))
    write_ramdisk(out, application_entries(entries, cmd=b"/app/main\n", env=b""), Mode.NITRO_CLI)
    return out.getvalue()


def made(application: bytes, **changes: bytes) -> bytes:
    parts = {
        "kernel": (SectionKind.KERNEL, bzimage()),
        "cmdline": (SectionKind.CMDLINE, CMDLINE),
        "metadata": (SectionKind.METADATA, METADATA.to_bytes()),
        "boot": (SectionKind.RAMDISK, cpio()),
        "application": (SectionKind.RAMDISK, application),
    }
    for name, data in changes.items():
        kind = parts[name][0] if name in parts else SectionKind[name.upper()]
        parts[name] = (kind, data)
    return image(list(parts.values()))


def compare(old: bytes, new: bytes) -> Difference:
    return compare_images(read_image(io.BytesIO(old)), read_image(io.BytesIO(new)))


WHOLE = made(ramdisk(BASE))


def test_an_image_is_identical_to_itself() -> None:
    assert compare(WHOLE, WHOLE).to_json() == {
        "schema": "enclavectl.eif-diff/1",
        "identical": True,
        "pcrs_changed": [],
        "changes": [],
        "cause": "the images are identical",
    }


def test_another_model_is_named_with_its_path() -> None:
    found = compare(WHOLE, made(ramdisk(BASE | {"app/model.tflite": b"Weights"}))).to_json()
    assert found["pcrs_changed"] == ["PCR0", "PCR2"]
    assert found["cause"] == "the model (/rootfs/app/model.tflite)"
    (change,) = found["changes"]  # type: ignore[misc]  # decoded JSON
    assert (change["where"], change["what"]) == ("ramdisk1:/rootfs/app/model.tflite", "content")  # type: ignore[has-type]  # decoded JSON


def test_time_stamps_only() -> None:
    found = compare(WHOLE, made(ramdisk(BASE, mtime=1)))
    assert {change.what for change in found.changes} == {"mtime"}
    assert len(found.changes) == len(BASE)
    assert found.cause.startswith(f"time stamps only ({len(BASE)} files)")


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({f"{SITE}/numpy/core.py": b"2"}, "packages (numpy)"),
        ({f"{SITE}/numpy-1.26.4.dist-info/RECORD": b"2"}, "packages (numpy)"),
        ({"var/lib/dpkg/info/libc6.list": b"y"}, "packages (libc6)"),
        ({f"{PAYLOAD}/server.py": b"2"}, f"the payload (/rootfs/{PAYLOAD}/server.py)"),
        ({f"{PAYLOAD}/model/model.json": b"{ }"}, f"the model's card (/rootfs/{PAYLOAD}/model/model.json)"),
        ({"app/main": b"other"}, "files (/rootfs/app/main)"),
        ({"app/new": b""}, "files (/rootfs/app/new added)"),
    ],
)
def test_causes_in_the_application(files: dict[str, bytes], cause: str) -> None:
    assert compare(WHOLE, made(ramdisk(BASE | files))).cause == cause


def test_another_model_is_the_only_cause_of_what_follows_from_it() -> None:
    """The card has the weights' hash, the metadata the ramdisk's, and the signature covers PCR0."""
    key = ec.generate_private_key(ec.SECP384R1())
    signer = load_signer(key_pem(key), certificate(key), now=NOW)
    weights, card = f"{PAYLOAD}/model/model.tflite", f"{PAYLOAD}/model/model.json"

    def signed(application: bytes, version: str) -> bytes:
        metadata = replace(METADATA, image_version=version).to_bytes()
        pcr0 = read_verified(io.BytesIO(made(application, metadata=metadata))).measurements.pcr0
        return made(application, metadata=metadata, signature=signer.sign(pcr0).to_bytes())

    found = compare(
        signed(ramdisk(BASE), "1"), signed(ramdisk(BASE | {weights: b"Weights", card: b"{ }"}), "2")
    )
    assert found.pcrs_changed == ("PCR0", "PCR2")
    assert {change.where for change in found.changes if change.path is None} == {"metadata", "signature"}
    assert found.cause == f"the model (/rootfs/{weights}) with its card"


@pytest.mark.parametrize(
    ("changes", "registers", "cause"),
    [
        ({"kernel": bzimage(8192)}, ["PCR0", "PCR1"], "another kernel"),
        ({"cmdline": b"debug"}, ["PCR0", "PCR1"], "another kernel command line"),
        ({"boot": cpio(b"b")}, ["PCR0", "PCR1"], "the boot files (/tag)"),
        ({"boot": b"070701 no archive"}, ["PCR0", "PCR1"], "ramdisk0 content"),
        (
            {"metadata": replace(METADATA, image_name="x").to_bytes()},
            [],
            "the metadata only; no PCR changes",
        ),
    ],
)
def test_causes_in_other_sections(changes: dict[str, bytes], registers: list[str], cause: str) -> None:
    found = compare(WHOLE, made(ramdisk(BASE), **changes))
    assert list(found.pcrs_changed) == registers
    assert found.cause == cause


def test_a_signature_moves_pcr8_only() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    signer = load_signer(key_pem(key), certificate(key), now=NOW)
    signed = made(
        ramdisk(BASE), signature=signer.sign(read_verified(io.BytesIO(WHOLE)).measurements.pcr0).to_bytes()
    )
    found = compare(WHOLE, signed)
    assert (found.pcrs_changed, found.cause) == (("PCR8",), "the signature only")
    assert [(change.where, change.what) for change in found.changes] == [("signature", "added")]


def test_every_respect_of_an_entry_is_told() -> None:
    old = ramdisk({"a/x": b"1"}, mode=0o600, uid=1)
    new = ramdisk({"a/x": b"2"}, mode=0o644, uid=2, mtime=3)
    found = compare(made(old), made(new))
    told = [(change.what.value, change.before, change.after) for change in found.changes]
    assert [what for what, _, _ in told] == ["content", "mode", "owner", "mtime"]
    assert told[1:] == [("mode", "0600", "0644"), ("owner", "1:0", "2:0"), ("mtime", "1600000000", "3")]


def test_types_targets_and_removals() -> None:
    def with_link(target: str) -> bytes:
        out = io.BytesIO()
        entries = read_export(bytes_range(tar([symlink("l", target), text("f")])))
        write_ramdisk(out, application_entries(entries, cmd=b"", env=b""), Mode.NITRO_CLI)
        return out.getvalue()

    found = compare(made(with_link("a")), made(with_link("b")))
    assert [(one.what, one.before, one.after) for one in found.changes] == [("target", "a", "b")]
    found = compare(made(with_link("a")), made(ramdisk({"l": b""})))
    assert {(one.path, one.what) for one in found.changes} >= {
        ("/rootfs/l", "kind"),
        ("/rootfs/f", "removed"),
    }


def test_the_same_files_stored_differently_are_a_layout_change() -> None:
    linuxkit = made(ramdisk({}))
    found = compare(linuxkit, made(gzip.compress(ramdisk({}), mtime=0)))
    assert [(one.where, one.what) for one in found.changes] == [("ramdisk1", "layout")]
    assert found.cause == "ramdisk1 is stored differently"


def test_a_further_ramdisk_is_told() -> None:
    parts = [(SectionKind.RAMDISK, cpio(b"x"))]
    base = [(1, bzimage()), (2, CMDLINE), (5, METADATA.to_bytes()), (3, cpio()), (3, cpio())]
    found = compare(image(base), image([*base, *[(int(kind), data) for kind, data in parts]]))
    assert [(one.where, one.what) for one in found.changes] == [("ramdisk2", "added")]


def test_a_damaged_image_is_refused() -> None:
    with pytest.raises(EifError):
        compare(WHOLE, WHOLE[:-1])


def test_more_changes_than_anyone_reads_are_counted() -> None:
    names = {f"app/{number}": b"1" for number in range(20)}
    old, new = (
        made(ramdisk(dict.fromkeys(names, data), mtime=time)) for data, time in ((b"1", 1), (b"2", 2))
    )
    images = read_image(io.BytesIO(old)), read_image(io.BytesIO(new))
    found = compare_images(*images, limit=5)
    assert [change.what for change in found.changes].count(ChangeKind.MTIME) == 5
    assert [change.what for change in found.changes].count(ChangeKind.CONTENT) == 5
    assert found.omitted == 30
    assert found.cause.endswith("and 30 more changes")
    assert found.to_json()["omitted"] == 30
    assert "omitted" not in compare_images(*images).to_json()


def records(*files: tuple[bytes, bytes]) -> bytes:
    out = io.BytesIO()
    writer = CpioWriter(out)
    for ino, (name, data) in enumerate(files):
        writer.add(CpioEntry(name=name, ino=ino, mode=0o100644, size=len(data)), [data])
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0))
    return out.getvalue()


def test_the_last_record_of_a_path_counts_and_paths_are_in_order() -> None:
    old = records((b"a", b"1"), (b"a-b", b"1"), (b"a/b", b"1"), (b"a", b"2"), (b"z", b""))
    new = records((b"a/b", b"2"), (b"a", b"2"), (b"a-b", b"2"), (b"0", b""))
    found = compare(made(old), made(new))
    told = [(change.path, change.what) for change in found.changes]
    assert told == [
        ("/0", ChangeKind.ADDED),
        ("/a/b", ChangeKind.CONTENT),
        ("/a-b", ChangeKind.CONTENT),
        ("/z", ChangeKind.REMOVED),
    ]
