"""Real parts: what ends a build, and that it leaves everything as it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclavectl.eif.format import MAGIC as EIF_MAGIC
from enclavectl.image.engine import LABEL
from tests.cli.command import COMMAND, Done, enclavectl
from tests.eif import samples
from tests.image.engine import APP, BASE_IMAGE, Lane, own_image
from tests.image.test_lane import connect_to
from tests.schemas.validation import check_output
from tests.small_disk import small_disk

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

# Told by its first bytes: nothing but images is written over.
OLD = EIF_MAGIC + b", the old one"
KEYGEN = b"""
import base64
key = base64.encodebytes(bytes(range(256)) * 4).decode()
open("/app/private_key.pem", "w").write("-----BEGIN RSA PRIVATE " + "KEY-----\\n" + key)
"""


def test_a_key_made_during_the_build_is_refused_even_if_it_is_deleted(lane: Lane, tmp_path: Path) -> None:
    context = own_image(
        tmp_path,
        f"FROM {BASE_IMAGE}\nCOPY keygen.py /app/\nRUN python3 /app/keygen.py\n"
        'RUN rm /app/private_key.pem\nCMD ["/usr/bin/python3"]\n',
        **{"keygen.py": KEYGEN},
    )
    (tmp_path / "enclave.eif").write_bytes(OLD)
    done = lane.build(tmp_path, "--dockerfile", context)
    assert done.status == 2
    assert done.error()["code"] == "lint-private-key"
    assert "layer 3: /app/private_key.pem" in str(done.error()["message"])
    assert (tmp_path / "enclave.eif").read_bytes() == OLD
    assert {path.name for path in tmp_path.iterdir()} == {"context", "enclave.eif"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_leaves_everything_as_it_was(
    lane: Lane, tmp_path: Path, number: signal.Signals
) -> None:
    context = own_image(tmp_path, f'FROM {BASE_IMAGE}\nRUN sleep 20 && echo {tmp_path}\nCMD ["/bin/true"]\n')
    (tmp_path / "enclave.eif").write_bytes(OLD)
    argv = [str(COMMAND), "build", "--blobs", str(lane.home / "blobs"), "--dockerfile", str(context)]
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(lane.home), **lane.environ}
    with subprocess.Popen(argv, cwd=tmp_path, env=environ, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.iterdir())) == 2 and time.monotonic() < deadline:
            time.sleep(0.05)  # until the context is there: the build has begun
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert (tmp_path / "enclave.eif").read_bytes() == OLD
    assert {path.name for path in tmp_path.iterdir()} == {"context", "enclave.eif"}


def test_a_failing_step_says_why_and_leaves_nothing(lane: Lane, tmp_path: Path) -> None:
    context = own_image(tmp_path, f"FROM {BASE_IMAGE}\nRUN echo the reason; exit 3\n")
    done = lane.build(tmp_path, "--dockerfile", context)
    assert done.status == 3
    assert "the reason" in str(done.error()["message"])
    assert {path.name for path in tmp_path.iterdir()} == {"context"}


def left_in(lane: Lane) -> tuple[set[str], set[str]]:
    """The engine's containers and its images, those of the classic builder's steps as well."""
    with connect_to(lane) as client:
        containers = {str(one.id) for one in client.containers.list(all=True, ignore_removed=True)}
        return containers, {str(one.id) for one in client.images.list(all=True)}


@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_a_failed_build_leaves_nothing_in_the_engine(lane: Lane, tmp_path: Path, builder: str) -> None:
    text = f"FROM {BASE_IMAGE}\nCOPY app /app\nRUN echo {tmp_path} >/made\nRUN exit 3\n"
    by = lane if builder == "buildkit" else Lane(lane.home, {**lane.environ, "PATH": str(tmp_path)})
    before = left_in(lane)
    done = by.build(tmp_path, "--dockerfile", own_image(tmp_path, text, app=str(tmp_path).encode()))
    assert done.status == 3
    assert left_in(lane) == before


def test_what_a_build_leaves_has_its_label(lane: Lane, tmp_path: Path) -> None:
    text = f'FROM scratch\nCOPY app /app\nLABEL test={tmp_path}\nCMD ["/app"]\n'
    done = lane.build(tmp_path, "--dockerfile", own_image(tmp_path, text, app=APP))
    assert done.status == 0, done.err
    image = done.json()["image"]
    assert isinstance(image, dict)
    with connect_to(lane) as client:
        assert LABEL in client.images.get(str(image["id"])).labels


def test_a_base_image_that_is_not_there_or_has_no_python_is_explained(lane: Lane, tmp_path: Path) -> None:
    absent = lane.build(tmp_path, "--base-image", "registry.invalid/none:1")
    assert absent.status == 3
    assert absent.error()["code"] == "image-missing"
    context = own_image(tmp_path, 'FROM scratch\nCOPY app /app\nCMD ["/app"]\n', app=APP)
    built = lane.build(tmp_path, "--dockerfile", context)
    image = built.json()["image"]
    assert isinstance(image, dict)
    without = lane.build(tmp_path, "--base-image", image["id"])
    assert without.status == 3
    assert without.error()["code"] == "base-image"


def test_no_docker_at_all_is_explained(tmp_path: Path) -> None:
    """Needs no engine, but belongs here."""
    done = enclavectl(
        "build",
        "--output",
        "json",
        home=tmp_path,
        environ={"DOCKER_HOST": f"unix://{tmp_path}/no.sock", "TMPDIR": os.environ.get("TMPDIR", "/tmp")},
    )
    assert done.status == 3
    assert done.error()["code"] == "docker-missing"


TUTORIAL = f"""FROM {BASE_IMAGE}
WORKDIR /app
COPY keygen.py server.py run.sh /app/
RUN python3 /app/keygen.py
ENV PYTHONUNBUFFERED=1
CMD ["run.sh"]
"""


def test_a_dockerfile_such_as_the_tutorials_is_refused(lane: Lane, tmp_path: Path) -> None:
    """Its key is made during the build and stays in the image: it is in a layer and in the ramdisk."""
    files = {
        "keygen.py": KEYGEN,
        "server.py": b"import socket\n",
        "run.sh": b"#!/bin/sh\npython3 server.py\n",
    }
    context = own_image(tmp_path, TUTORIAL, **files)
    done = lane.build(tmp_path, "--dockerfile", context)
    assert done.status == 2
    message = str(done.error()["message"])
    assert "private-key: layer 4: /app/private_key.pem" in message
    assert "relative-command: image: init looks for 'run.sh'" in message
    allowed = lane.build(
        tmp_path,
        "--dockerfile",
        context,
        "--allow",
        "relative-command=a test",
        "--allow",
        "command=a test",
        "--allow",
        "private-key=a test",
    )
    assert allowed.status == 0, allowed.err
    where = [(one["rule"], one["where"]) for one in allowed.json()["findings"]]
    assert ("private-key", "ramdisk1: /rootfs/app/private_key.pem") in where
    assert ("ignored-setting", "image") in where


def limited(lane: Lane, folder: Path, mib: int, *arguments: object) -> Done:
    """A build that may write no file of more than ``mib`` MiB, as on a disk that becomes full there."""
    argv = ["prlimit", f"--fsize={mib << 20}", str(COMMAND), "build", "--blobs", str(lane.home / "blobs")]
    outputs = ["--to", folder / "enclave.eif", "--lock", folder / "enclavectl.lock.json", "--output", "json"]
    done = subprocess.run(
        [*argv, *map(str, (*outputs, *arguments))],
        env={"PATH": os.environ["PATH"], "HOME": str(lane.home), **lane.environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    check_output(done.stdout)
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.parametrize("mib", [1, 60, 128], ids=["context", "saved image", "EIF"])
def test_a_full_disk_leaves_the_old_image_and_its_lock(
    lane: Lane, payload: Path, tmp_path: Path, mib: int
) -> None:
    lock = (payload / "enclavectl.lock.json").read_bytes()
    (tmp_path / "enclave.eif").write_bytes(OLD)
    (tmp_path / "enclavectl.lock.json").write_bytes(lock)
    kernel = tmp_path / "kernel"
    kernel.write_bytes(samples.bzimage(128 << 20))  # so that only the EIF is larger than that
    done = limited(lane, tmp_path, mib, "--kernel", kernel, "--base-image", BASE_IMAGE)
    assert done.status == 3, done.err
    assert "File too large" in str(done.error()["message"])
    assert (tmp_path / "enclave.eif").read_bytes() == OLD
    assert (tmp_path / "enclavectl.lock.json").read_bytes() == lock
    assert {path.name for path in tmp_path.iterdir()} == {"kernel", "enclave.eif", "enclavectl.lock.json"}


def test_a_lock_that_cannot_be_written_leaves_the_old_image(lane: Lane, tmp_path: Path) -> None:
    context = own_image(tmp_path, 'FROM scratch\nCOPY app /app\nCMD ["/app"]\n', app=APP)
    (tmp_path / "enclave.eif").write_bytes(OLD)
    outputs = ["--blobs", lane.home / "blobs", "--to", tmp_path / "enclave.eif"]
    with small_disk(tmp_path / "small", "16k") as small:
        (small / "enclavectl.lock.json").write_bytes(b"")
        (small / "full").write_bytes(bytes(16 << 10))
        lock = ["--lock", small / "other.lock.json"]
        done = lane.run("build", *outputs, *lock, "--dockerfile", context)
        left = {path.name for path in small.iterdir()}
    assert done.status == 2, done.err
    assert "No space left on device" in str(done.error()["message"])
    assert left == {"enclavectl.lock.json", "full"}
    assert (tmp_path / "enclave.eif").read_bytes() == OLD
    assert {path.name for path in tmp_path.iterdir()} == {"context", "enclave.eif", "small"}


def test_a_full_file_system_is_named(lane: Lane, payload: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "80m") as small:
        shutil.copy(payload / "enclavectl.lock.json", small)
        done = lane.build(small, "--base-image", BASE_IMAGE)
        left = {path.name for path in small.iterdir()}
    assert done.status == 3, done.err
    assert "No space left on device" in str(done.error()["message"])
    assert str(small) in f"{done.error()['message']} {done.error()['hint']}"
    assert left == {"enclavectl.lock.json"}


def test_an_absent_nitro_cli_is_said_before_anything_is_built(lane: Lane, tmp_path: Path) -> None:
    context = own_image(tmp_path, f"FROM {BASE_IMAGE}\nRUN exit 3\n")
    nowhere = Lane(lane.home, {**lane.environ, "PATH": str(tmp_path)})
    done = nowhere.build(tmp_path, "--dockerfile", context, "--builder", "nitro-cli")
    assert done.status == 3
    assert done.error()["code"] == "nitro-cli-missing"
    (tmp_path / "cert.pem").write_bytes(
        samples.certificate(ec.generate_private_key(ec.SECP384R1()), start=datetime.now(UTC))
    )
    kms = ["--sign", "arn:aws:kms:eu-west-1:123456789012:key/1234", "--cert", tmp_path / "cert.pem"]
    signed = nowhere.build(tmp_path, "--dockerfile", context, *kms)
    assert signed.error()["code"] == "nitro-cli-missing"
    assert "KMS" in str(signed.error()["message"])
    assert "native" not in str(signed.error()["hint"])
