"""``enclavectl eif``, through the installed command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from enclavectl.eif.cpio import TRAILER, CpioEntry, CpioWriter
from enclavectl.eif.format import SectionKind
from tests.cli.command import COMMAND, Done, enclavectl
from tests.eif import samples
from tests.eif.vectors import vectors

MODEL = b"rootfs/app/model.tflite"


class Buffer(bytearray):
    """A sink for the cpio writer."""

    def write(self, data: bytes) -> None:
        self += data


def ramdisk(files: dict[bytes, bytes], *, mtime: int = 0) -> bytes:
    sink = Buffer()
    writer = CpioWriter(sink)
    for ino, (name, data) in enumerate(files.items()):
        entry = CpioEntry(name=name, ino=ino, mode=0o100644, mtime=mtime, size=len(data))
        writer.add(entry, [data])
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0))
    return bytes(sink)


def write_image(path: Path, *, model: bytes = b"weights", mtime: int = 0) -> Path:
    parts = samples.sections(ramdisks=1)
    parts.append((SectionKind.RAMDISK, ramdisk({b"cmd": b"/app\n", MODEL: model}, mtime=mtime)))
    path.write_bytes(samples.image(parts))
    return path


def eif(tmp_path: Path, *arguments: object) -> Done:
    return enclavectl("eif", *arguments, "--output", "json", home=tmp_path)


def signing_files(folder: Path, *, days: int = 30) -> list[object]:
    key = ec.generate_private_key(ec.SECP384R1())
    start = datetime.now(UTC) - timedelta(days=10)
    (folder / "key.pem").write_bytes(samples.key_pem(key))
    (folder / "cert.pem").write_bytes(samples.certificate(key, start=start, days=days))
    return ["--key", folder / "key.pem", "--cert", folder / "cert.pem"]


def test_pcrs_are_those_of_show_and_verify(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    pcrs = eif(tmp_path, "pcrs", image).json()
    shown = eif(tmp_path, "show", image).json()
    verified = eif(tmp_path, "verify", image)
    assert pcrs["schema"] == "enclavectl.pcrs/1"
    assert pcrs["HashAlgorithm"] == "SHA384"
    registers = {name: pcrs[name] for name in ("PCR0", "PCR1", "PCR2")}
    assert "PCR8" not in pcrs
    measurements = shown["Measurements"]
    assert isinstance(measurements, dict)
    assert {name: measurements[name] for name in registers} == registers
    assert verified.status == 0
    assert verified.json()["pcrs"] == registers
    assert verified.json()["sound"] is True


def test_text_output_is_for_people(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    for command in ("show", "pcrs", "verify"):
        done = enclavectl("eif", command, image, home=tmp_path)
        assert done.status == 0, done.err
        assert "PCR0" in done.out
        assert "{" not in done.out.replace("Sha384 { ... }", "")


def test_damage_is_refused_and_lenient_reading_reports_all_of_it(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    data = bytearray(image.read_bytes())
    data[26] = 0xFF  # the section count
    data[-1] ^= 1
    image.write_bytes(data)
    for command in ("show", "pcrs"):
        done = eif(tmp_path, command, image)
        assert done.status == 2
        assert done.error()["code"] == "section-count"
    lenient = eif(tmp_path, "show", "--lenient", image)
    assert lenient.status == 2
    facts = lenient.json()["enclavectl"]
    assert isinstance(facts, dict)
    assert {"section-count", "crc"} <= {finding["code"] for finding in facts["findings"]}
    verified = eif(tmp_path, "verify", image)
    assert verified.status == 2
    assert verified.json()["sound"] is False


def test_verify_is_not_content_with_what_only_looks_odd(tmp_path: Path) -> None:
    parts = samples.sections()
    parts[0] = (SectionKind.KERNEL, samples.bzimage() + b"appended" * 8)
    (tmp_path / "a.eif").write_bytes(samples.image(parts))
    done = eif(tmp_path, "verify", tmp_path / "a.eif")
    assert done.status == 2
    assert "kernel-boundary" in done.out


@pytest.mark.parametrize("command", ["show", "pcrs", "verify"])
def test_a_huge_section_in_a_small_file_costs_nothing(tmp_path: Path, command: str) -> None:
    data = bytearray(write_image(tmp_path / "a.eif").read_bytes())
    data[284:292] = (8 << 60).to_bytes(8)
    data[552:560] = (8 << 60).to_bytes(8)
    (tmp_path / "a.eif").write_bytes(data)
    done = eif(tmp_path, command, tmp_path / "a.eif")
    assert done.status == 2
    assert "Traceback" not in done.err


def test_diff_names_the_model_and_the_pcrs(tmp_path: Path) -> None:
    before = write_image(tmp_path / "a.eif")
    after = write_image(tmp_path / "b.eif", model=b"weightz")
    found = eif(tmp_path, "diff", before, after)
    assert found.status == 0
    value = found.json()
    assert value["schema"] == "enclavectl.eif-diff/1"
    assert value["pcrs_changed"] == ["PCR0", "PCR2"]
    changes = value["changes"]
    assert isinstance(changes, list)
    assert [(one["where"], one["what"]) for one in changes] == [
        ("ramdisk1:/rootfs/app/model.tflite", "content")
    ]
    assert value["cause"] == "the model (/rootfs/app/model.tflite)"
    text = enclavectl("eif", "diff", before, after, home=tmp_path)
    assert "model.tflite" in text.out
    same = eif(tmp_path, "diff", before, before).json()
    assert same["identical"] is True


def test_diff_sees_time_stamps(tmp_path: Path) -> None:
    before = write_image(tmp_path / "a.eif")
    after = write_image(tmp_path / "b.eif", mtime=1)
    assert "time stamps only" in str(eif(tmp_path, "diff", before, after).json()["cause"])


def test_sign_writes_a_copy_that_verifies(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    unsigned = image.read_bytes()
    signed = tmp_path / "signed.eif"
    done = eif(tmp_path, "sign", image, *signing_files(tmp_path), "--to", signed)
    assert done.status == 0, done.err
    assert image.read_bytes() == unsigned
    verified = eif(tmp_path, "verify", signed).json()
    assert verified["signed"] is True
    assert verified["sound"] is True
    assert verified["pcrs"] == done.json()["pcrs"]
    assert set(done.json()["pcrs"]) == {"PCR0", "PCR1", "PCR2", "PCR8"}  # type: ignore[call-overload]
    assert eif(tmp_path, "show", signed).json()["SignatureCheck"] is True


@pytest.mark.parametrize(
    ("spoil", "code"),
    [("rsa", "certificate-key"), ("other", "certificate-mismatch"), ("expired", "certificate-time")],
)
def test_a_failed_signing_leaves_nothing(tmp_path: Path, spoil: str, code: str) -> None:
    image = write_image(tmp_path / "a.eif")
    options = signing_files(tmp_path, days=1 if spoil == "expired" else 30)
    if spoil == "rsa":
        (tmp_path / "key.pem").write_bytes(samples.key_pem(rsa.generate_private_key(65537, 2048)))
    elif spoil == "other":
        (tmp_path / "key.pem").write_bytes(samples.key_pem(ec.generate_private_key(ec.SECP384R1())))
    before = set(tmp_path.iterdir())
    done = eif(tmp_path, "sign", image, *options, "--to", tmp_path / "signed.eif")
    assert done.status == 2
    assert done.error()["code"] == code
    assert set(tmp_path.iterdir()) == before


def test_extract_writes_every_section_once(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    folder = tmp_path / "parts"
    assert eif(tmp_path, "extract", image, "--to", folder).status == 0
    names = {"kernel", "cmdline", "metadata.json", "ramdisk0.cpio", "ramdisk1.cpio"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "cmdline").read_bytes() == samples.CMDLINE
    assert json.loads((folder / "metadata.json").read_bytes())["ImageName"] == "sample"
    again = eif(tmp_path, "extract", image, "--to", folder)
    assert again.status == 6
    assert again.error()["kind"] == "state"


ALL = ("show", "pcrs", "verify", "diff", "sign", "extract")


def arguments_of(command: str, folder: Path, file: Path) -> list[object]:
    """What makes a sound image of ``file`` pass, if it were one."""
    if command == "diff":
        return [write_image(folder / "sound.eif"), file]
    if command == "sign":
        return [file, *signing_files(folder), "--to", folder / "signed.eif"]
    return [file, "--to", folder / "parts"] if command == "extract" else [file]


@pytest.mark.parametrize("command", ALL)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("absent", "fifo", "."):
        done = eif(tmp_path, command, *arguments_of(command, tmp_path, tmp_path / name))
        assert done.status == 2
        assert done.error()["kind"] == "usage"
        assert done.err.count(str(tmp_path / name)) == 1


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("data", [b"", b"no image" * 100], ids=["empty", "other"])
def test_what_is_no_image_is_named_once(tmp_path: Path, command: str, data: bytes) -> None:
    (tmp_path / "none").write_bytes(data)
    arguments = arguments_of(command, tmp_path, tmp_path / "none")
    done = enclavectl("eif", command, *arguments, home=tmp_path)
    assert done.status == 2
    assert (done.out + done.err).count(str(tmp_path / "none")) == 1


@pytest.mark.parametrize("command", ["show", "pcrs"])
def test_of_several_files_each_bad_one_is_named_once(tmp_path: Path, command: str) -> None:
    bad = [tmp_path / name for name in ("absent", "damaged", "folder")]
    bad[1].write_bytes(b"no image" * 100)
    bad[2].mkdir()
    done = enclavectl("eif", command, *bad, home=tmp_path)
    assert done.status == 2
    assert [line.split(": ")[1] for line in done.err.splitlines()] == [str(path) for path in bad]
    assert [done.err.count(str(path)) for path in bad] == [1, 1, 1]


def test_of_two_images_that_are_compared_the_damaged_one_is_named(tmp_path: Path) -> None:
    sound, damaged = write_image(tmp_path / "a.eif"), tmp_path / "b.eif"
    damaged.write_bytes(sound.read_bytes()[:-1] + b"!")
    for pair in ([sound, damaged], [damaged, sound]):
        error = eif(tmp_path, "diff", *pair).error()
        assert error["code"] == "crc"
        assert str(error["message"]).startswith(f"{damaged}: ")


def test_official_images_describe_as_the_official_tool_describes_them(tmp_path: Path) -> None:
    folder = vectors("official")
    described = sorted(folder.glob("*.describe.json"))
    assert described
    for path in described:
        image = folder / path.name.replace(".describe.json", ".eif")
        shown = eif(tmp_path, "show", "--lenient", image).json()
        shown.pop("enclavectl")
        assert shown == json.loads(path.read_bytes()), path.name


def test_the_split_view_shows_both_measurements(tmp_path: Path) -> None:
    done = eif(tmp_path, "show", "--lenient", vectors("hostile") / "split_view.eif")
    assert done.status == 2
    value = done.json()
    facts, linear = value["enclavectl"], value["Measurements"]
    assert isinstance(facts, dict)
    assert isinstance(linear, dict)
    assert facts["table_measurements"]["PCR0"] != linear["PCR0"]


@pytest.mark.parametrize("command", ["show", "pcrs", "verify"])
def test_several_files_are_one_list_of_what_each_would_be_alone(command: str, tmp_path: Path) -> None:
    first, second = write_image(tmp_path / "a.eif"), tmp_path / "b.eif"
    assert eif(tmp_path, "sign", first, *signing_files(tmp_path), "--to", second).status == 0
    done = eif(tmp_path, command, first, second)
    assert done.status == 0
    alone = [{"file": str(path), **eif(tmp_path, command, path).json()} for path in (first, second)]
    assert done.json()["files"] == alone
    assert str(done.json()["schema"]).endswith("-files/1")


@pytest.mark.parametrize("command", ["show", "pcrs", "verify"])
def test_of_several_files_the_worst_decides_and_the_others_are_still_answered(
    command: str, tmp_path: Path
) -> None:
    good, broken = write_image(tmp_path / "good.eif"), tmp_path / "broken.eif"
    broken.write_bytes(good.read_bytes()[:-1] + b"!")
    done = eif(tmp_path, command, broken, tmp_path / "absent.eif", good)
    assert done.status == 2
    files = done.json()["files"]
    assert isinstance(files, list)
    assert [one["file"] for one in files] == [str(broken), str(tmp_path / "absent.eif"), str(good)]
    assert files[1]["error"]["kind"] == "usage"
    assert files[2] == {"file": str(good), **eif(tmp_path, command, good).json()}
    assert "no such image file" in done.err


def test_several_files_as_text_are_blocks_under_their_names(tmp_path: Path) -> None:
    first, second = write_image(tmp_path / "a.eif"), write_image(tmp_path / "b.eif")
    both = enclavectl("eif", "pcrs", first, second, home=tmp_path)
    alone = enclavectl("eif", "pcrs", first, home=tmp_path)
    assert both.out == f"{first}\n{alone.out}{second}\n{alone.out}"


def test_no_file_is_too_broken_to_be_said_so_in_text(tmp_path: Path) -> None:
    files = sorted(vectors("hostile").glob("*.eif"))
    assert files
    for options in (["verify"], ["show", "--lenient"], ["pcrs"]):
        done = enclavectl("eif", *options, *files, home=tmp_path)
        assert done.status == 2
        assert "Traceback" not in done.err
    single = enclavectl("eif", "verify", vectors("hostile") / "empty.eif", home=tmp_path)
    assert single.status == 2
    assert "NOT SOUND" in single.out


@pytest.mark.parametrize("name", ["sig_garbage", "sig_extra_key", "sig_chain_pem"])
def test_a_signature_that_cannot_be_read_is_not_called_none(tmp_path: Path, name: str) -> None:
    image = vectors("hostile") / f"{name}.eif"
    shown = eif(tmp_path, "show", "--lenient", image).json()
    assert shown["IsSigned"] is True
    assert shown["SignatureCheck"] is False
    assert eif(tmp_path, "verify", image).json()["signed"] is True


def test_a_broken_layout_is_said_before_the_file_is_read(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    with image.open("ab") as file:
        file.truncate(1 << 40)  # which would take minutes to read
    shown = eif(tmp_path, "show", image)
    assert shown.status == 2
    assert shown.error()["code"] == "section-count"


def test_nothing_but_files_is_written_over(tmp_path: Path) -> None:
    """Root could put an image in place of /dev/null."""
    image = write_image(tmp_path / "a.eif")
    os.mkfifo(tmp_path / "fifo")
    done = eif(tmp_path, "sign", image, *signing_files(tmp_path), "--to", tmp_path / "fifo")
    assert done.status == 2
    assert "a FIFO" in str(done.error()["message"])
    assert (tmp_path / "fifo").is_fifo()


def test_a_key_in_kms_is_named_as_what_it_is(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    signing_files(tmp_path)
    arn = "arn:aws:kms:eu-west-1:123456789012:key/1234"
    done = eif(tmp_path, "sign", image, "--key", arn, "--cert", tmp_path / "cert.pem", "--to", tmp_path / "b")
    assert done.status == 2
    assert "nitro-cli" in str(done.error())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whatever_ends_a_signing_no_file_is_left(tmp_path: Path, number: signal.Signals) -> None:
    image = write_image(tmp_path / "a.eif", model=bytes(200 << 20))
    options = signing_files(tmp_path)
    before = set(tmp_path.iterdir())
    argv = [COMMAND, "eif", "sign", image, *options, "--to", tmp_path / "b.eif"]
    with subprocess.Popen([str(word) for word in argv], stderr=subprocess.PIPE) as process:
        while set(tmp_path.iterdir()) == before and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in said
    assert set(tmp_path.iterdir()) == before
