"""``enclavectl eif sign`` and ``extract``: what they write, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.cli.command import COMMAND
from tests.cli.images import eif, signing_files, write_image
from tests.eif import samples


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
    assert set(done.json()["pcrs"]) == {"PCR0", "PCR1", "PCR2", "PCR8"}
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


def test_a_signed_image_never_replaces_the_key_that_signs_it(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    words = ("sign", image, *signing_files(tmp_path), "--to")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for name in ("key.pem", "cert.pem"):
        done = eif(tmp_path, *words, tmp_path / name)
        assert (done.status, done.error()["code"]) == (2, "foreign-file")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert eif(tmp_path, *words, tmp_path / "signed.eif").status == 0
    assert eif(tmp_path, *words, tmp_path / "signed.eif").status == 0, "an image may be written anew"


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
@pytest.mark.parametrize("command", ["sign", "extract"])
def test_whatever_ends_it_nothing_is_left(tmp_path: Path, command: str, number: signal.Signals) -> None:
    image = write_image(tmp_path / "a.eif", model=bytes(200 << 20))
    options = signing_files(tmp_path) if command == "sign" else []
    before = set(tmp_path.iterdir())
    argv = [COMMAND, "eif", command, image, *options, "--to", tmp_path / "new"]
    with subprocess.Popen([str(word) for word in argv], stderr=subprocess.PIPE) as process:
        while set(tmp_path.iterdir()) == before and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in said
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit of util-linux is not installed here")
@pytest.mark.parametrize("command", ["sign", "extract"])
def test_on_a_full_disk_nothing_is_left(tmp_path: Path, command: str) -> None:
    image = write_image(tmp_path / "a.eif", model=bytes(4 << 20))
    options = signing_files(tmp_path) if command == "sign" else []
    before = set(tmp_path.iterdir())
    argv = [
        "prlimit",
        f"--fsize={2 << 20}",
        COMMAND,
        "eif",
        command,
        image,
        *options,
        "--to",
        tmp_path / "new",
    ]
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "File too large" in done.stderr
    assert set(tmp_path.iterdir()) == before
