"""Real parts: a Docker engine builds the real payload, and what it saves becomes a measured image."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from enclave_payload.card import load_card, model_register
from enclavectl.artifacts.lock import read_lock
from enclavectl.eif.file_range import whole_file
from enclavectl.eif.ramdisk.application import write_application
from enclavectl.eif.ramdisk.archive import open_archive
from enclavectl.eif.ramdisk.layers import ImpliedDirectories
from enclavectl.eif.ramdisk.ramdisks import Mode, application_entries, init_lines, write_ramdisk
from enclavectl.image.context import payload_context, write_context
from enclavectl.image.plan import lock_wheels
from enclavectl.image.target import PROBE, parse_probe
from enclavectl.image.wheels import Runtime, WheelStore
from enclavectl.models.find import PACKAGED_DIR, find_model
from tests.eif.samples import read_export
from tests.image.engine import APP, BASE_IMAGE, Lane, own_image
from tests.image.test_nitro import fake

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@contextmanager
def connect_to(lane: Lane) -> Iterator[DockerClient]:
    import docker

    client = docker.DockerClient(base_url=lane.environ["DOCKER_HOST"])
    try:
        yield client
    finally:
        client.close()


def probe_output(client: DockerClient) -> bytes:
    return bytes(
        client.containers.run(BASE_IMAGE, ["python3", "-c", PROBE], network_mode="none", remove=True)
    )


def test_the_payload_becomes_a_sound_image_with_a_lock(lane: Lane, payload: Path) -> None:
    verified = lane.run("eif", "verify", payload / "enclave.eif")
    assert verified.status == 0, verified.out
    lock = json.loads((payload / "enclavectl.lock.json").read_bytes())
    register = model_register(load_card(PACKAGED_DIR).to_json()).hex()
    assert {**dict(verified.json()["pcrs"]), "PCR16": register} == lock["pcrs"]
    assert lock["model"]["id"] == "demo-lesion"
    names = {wheel["name"] for wheel in lock["wheels"]}
    assert {"cryptography", "isal", "numpy", "pillow"} <= names
    assert "cbor2" not in names
    assert lock["findings"] == []
    checked = lane.run("lock", "check", "--lock", payload / "enclavectl.lock.json")
    assert checked.status == 0


def test_two_builds_in_two_folders_are_the_same_image(lane: Lane, payload: Path, tmp_path: Path) -> None:
    shutil.copy(payload / "enclavectl.lock.json", tmp_path)
    said = tmp_path / "enclave.intoto.json"
    done = lane.build(tmp_path, "--base-image", BASE_IMAGE, "--provenance", said)
    assert done.status == 0, done.err
    image = (tmp_path / "enclave.eif").read_bytes()
    assert image == (payload / "enclave.eif").read_bytes()
    (subject,) = json.loads(said.read_bytes())["subject"]
    assert subject["digest"]["sha384"] == hashlib.sha384(image).hexdigest()
    assert subject["annotations"]["pcrs"] == done.json()["pcrs"]


def test_a_build_from_nothing_cached_is_the_same_image(lane: Lane, payload: Path, tmp_path: Path) -> None:
    """Docker's cache must not be what makes two builds equal."""
    locked = read_lock(payload / "enclavectl.lock.json")
    with connect_to(lane) as client:
        target = parse_probe(probe_output(client), BASE_IMAGE)
        store = WheelStore(folder=lane.home / ".local/share/enclavectl/wheels", environ=lane.environ)
        model = find_model("demo-lesion", data_dir=tmp_path)
        context = io.BytesIO()
        assert lock_wheels(locked.wheels, store, target, Runtime.AUTO) == locked.wheels
        write_context(payload_context(model, locked.wheels, store), context)
        context.seek(0)
        image, _ = client.images.build(
            fileobj=context,
            custom_context=True,
            nocache=True,
            network_mode="none",
            buildargs={"BASE_IMAGE": str(client.images.get(BASE_IMAGE).id)},
        )
        save(tmp_path / "image.tar", image.save())
    ours = io.BytesIO()
    with open_archive(tmp_path / "image.tar") as archive:
        write_application(ours, archive, Mode.REPRODUCIBLE)
    assert lane.run("eif", "extract", payload / "enclave.eif", "--to", tmp_path / "parts").status == 0
    assert ours.getvalue() == (tmp_path / "parts" / "ramdisk1.cpio").read_bytes()


def test_the_image_starts_the_payload(lane: Lane, payload: Path) -> None:
    """Outside an enclave it goes as far as the device that only an enclave has."""
    from docker.errors import ContainerError

    image = read_lock(payload / "enclavectl.lock.json").image["id"]
    with connect_to(lane) as client, pytest.raises(ContainerError, match="/dev/nsm") as caught:
        client.containers.run(str(image), network_mode="none", remove=True)
    assert "NsmError" in str(caught.value)


def test_the_image_has_no_shell_no_package_manager_and_no_key(lane: Lane, payload: Path) -> None:
    done = lane.run("eif", "extract", payload / "enclave.eif", "--to", payload / "parts")
    assert done.status == 0
    names = archive_names(payload / "parts" / "ramdisk1.cpio")
    assert b"rootfs/usr/bin/enclave-python" in names
    tools = {b"sh", b"bash", b"dash", b"apt", b"dpkg", b"pip", b"gcc", b"cc", b"perl", b"busybox"}
    assert not {name for name in names if name.rpartition(b"/")[2] in tools}


def archive_names(path: Path) -> set[bytes]:
    from enclavectl.eif.ramdisk.cpio import CpioReader

    with path.open("rb") as file:
        return {entry.name for entry in CpioReader(file)}


def test_one_changed_byte_of_the_model_is_named(lane: Lane, payload: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(PACKAGED_DIR, model)
    weights = bytearray((model / "model.tflite").read_bytes())
    weights[len(weights) // 8 * 4] ^= 1  # the lowest bit of a number somewhere in the middle
    card = (model / "model.yaml").read_text()
    old = hashlib.sha256((model / "model.tflite").read_bytes()).hexdigest()
    (model / "model.tflite").write_bytes(weights)
    (model / "model.yaml").write_text(card.replace(old, hashlib.sha256(weights).hexdigest()))
    shutil.copy(payload / "enclavectl.lock.json", tmp_path)
    done = lane.build(tmp_path, "--base-image", BASE_IMAGE, "--model", model)
    assert done.status == 0, done.err
    found = lane.run("eif", "diff", payload / "enclave.eif", tmp_path / "enclave.eif").json()
    assert found["pcrs_changed"] == ["PCR0", "PCR2"]
    only = r"the model \(/rootfs/\S+/enclave_payload/model/model\.tflite\) with its card"
    assert re.fullmatch(only, str(found["cause"])), found["cause"]
    stale = lane.run("lock", "check", tmp_path / "enclave.eif", "--lock", payload / "enclavectl.lock.json")
    assert stale.status == 6
    assert stale.error()["code"] == "lock-pcrs"


def test_findings_pass_with_a_reason_and_are_kept_in_the_lock(lane: Lane, tmp_path: Path) -> None:
    dockerfile = 'FROM scratch\nCOPY app /bin/app\nUSER 7\nENTRYPOINT ["/bin/app"]\nCMD ["serve"]\n'
    context = own_image(tmp_path, dockerfile, app=APP)
    refused = lane.build(tmp_path, "--dockerfile", context)
    assert refused.error()["code"] == "lint-entrypoint-and-cmd"
    assert "relative-command" in str(refused.error()["message"])
    rules = ("entrypoint-and-cmd", "relative-command", "command")
    allowed = [word for rule in rules for word in ("--allow", f"{rule}=a test")]
    done = lane.build(tmp_path, "--dockerfile", context, *allowed)
    assert done.status == 0, done.err
    lock = json.loads((tmp_path / "enclavectl.lock.json").read_bytes())
    assert lock["allowed"] == dict.fromkeys(rules, "a test")
    assert {one["rule"] for one in lock["findings"]} >= {"ignored-setting", "relative-command"}


def test_nitro_cli_is_given_a_name_for_the_image_that_was_built(
    lane: Lane, payload: Path, tmp_path: Path
) -> None:
    """An executable in its place copies an image file of ours and prints its PCRs."""
    dockerfile = f'FROM scratch\nCOPY app /app\nLABEL test={tmp_path}\nCMD ["/app"]\n'
    context = own_image(tmp_path, dockerfile, app=APP)
    pcrs = dict(read_lock(payload / "enclavectl.lock.json").pcrs)
    register = pcrs.pop("PCR16")  # nitro-cli knows nothing of it
    said = json.dumps({"Measurements": {"HashAlgorithm": "Sha384 { ... }", **pcrs}})
    environ = fake(tmp_path, f"cp {payload}/enclave.eif \"$output\"; echo '{said}'")
    nitro = Lane(lane.home, {**lane.environ, "PATH": environ["PATH"]})
    out = tmp_path / "out"
    done = nitro.build(out, "--dockerfile", context, "--builder", "nitro-cli")
    assert done.status == 0, done.err
    lock = read_lock(out / "enclavectl.lock.json")
    assert lock.tools["builder"] == "nitro-cli"
    assert lock.model_register is None, "an image of one's own has no model"
    argv = (tmp_path / "argv").read_text().split()
    assert argv[:2] == ["build-enclave", "--docker-uri"]
    with connect_to(lane) as client:
        image = client.images.get(str(lock.image["id"]))
        assert image.tags == [argv[2]]  # kept: Docker would delete the image with its last name
        image.tag("enclavectl-test-other", "1")
        again = nitro.build(out, "--image", "enclavectl-test-other:1", "--builder", "nitro-cli")
        assert again.status == 0, again.err
        assert client.images.get("enclavectl-test-other:1").tags == ["enclavectl-test-other:1"]
        client.images.remove("enclavectl-test-other:1")
    shutil.copy(payload / "enclavectl.lock.json", out)
    ours = nitro.build(out, "--base-image", BASE_IMAGE, "--builder", "nitro-cli")
    assert ours.status == 0, ours.err
    assert ours.json()["pcrs"] == {**pcrs, "PCR16": register}


def test_dry_run_says_what_it_would_do_and_writes_nothing(lane: Lane, payload: Path, tmp_path: Path) -> None:
    shutil.copy(payload / "enclavectl.lock.json", tmp_path)
    done = lane.build(tmp_path, "--base-image", BASE_IMAGE, "--dry-run")
    assert done.status == 0, done.err
    context = done.json()["context"]
    assert isinstance(context, list)
    assert {"Dockerfile", "enclave_payload/model/model.json", "wheels/requirements.txt"} <= set(context)
    assert {path.name for path in tmp_path.iterdir()} == {"enclavectl.lock.json"}


def test_dry_run_of_an_image_that_is_there_lints_it(lane: Lane, tmp_path: Path) -> None:
    context = own_image(tmp_path, 'FROM scratch\nCOPY app /app\nENV MY_TOKEN=abcd\nCMD ["/app"]\n', app=APP)
    with connect_to(lane) as client:
        client.images.build(path=str(context), tag="enclavectl-test-dry:1", network_mode="none")
        try:
            done = lane.build(tmp_path, "--image", "enclavectl-test-dry:1", "--dry-run")
        finally:
            client.images.remove("enclavectl-test-dry:1")
    assert done.status == 2
    assert done.error()["code"] == "lint-credential"
    assert "image: ENV MY_TOKEN" in str(done.json()["findings"])
    assert {path.name for path in tmp_path.iterdir()} == {"context"}


def test_dry_run_of_a_dockerfile_that_makes_a_key_names_the_line(lane: Lane, tmp_path: Path) -> None:
    context = own_image(tmp_path, f'FROM {BASE_IMAGE}\nRUN ssh-keygen -t rsa -f key\nCMD ["/bin/true"]\n')
    done = lane.build(tmp_path, "--dockerfile", context, "--dry-run")
    assert done.status == 2
    assert done.error()["code"] == "lint-private-key"
    assert "context: Dockerfile, line 2" in str(done.error()["message"])
    assert {path.name for path in tmp_path.iterdir()} == {"context"}


LAYERS = f"""FROM {BASE_IMAGE}
RUN mkdir -p /data/sub /gone && echo one > /data/one && ln /data/one /data/two && ln -s one /data/link && \\
    chmod 4755 /data/one && echo hidden > /gone/file && chgrp 5 /data/sub && chmod 2775 /data/sub
RUN rm -r /gone && echo changed > /data/sub/three && mkfifo /data/fifo && rm /usr/bin/python3
CMD ["/data/one"]
"""


def test_layers_flatten_to_what_docker_exports(lane: Lane, tmp_path: Path) -> None:
    """The nitro-cli mode's ramdisk, once from the saved layers and once from a real ``docker export``."""
    context = own_image(tmp_path, LAYERS)
    done = lane.build(tmp_path, "--dockerfile", context, "--mode", "nitro-cli")
    assert done.status == 0, done.err
    image = str(read_lock(tmp_path / "enclavectl.lock.json").image["id"])
    with connect_to(lane) as client:
        save(tmp_path / "image.tar", client.images.get(image).save())
        container = client.containers.create(image, network_mode="none")
        try:
            save(tmp_path / "export.tar", cast("Iterator[bytes]", container.export()))
        finally:
            container.remove()
    ours, exported = io.BytesIO(), io.BytesIO()
    with open_archive(tmp_path / "image.tar") as archive:
        assert write_application(ours, archive, Mode.NITRO_CLI).implied == ImpliedDirectories()
        cmd, env = init_lines(archive.config.command()), init_lines(archive.config.env)
    with (tmp_path / "export.tar").open("rb") as file:
        entries = application_entries(read_export(whole_file(file)), cmd=cmd, env=env)
        write_ramdisk(exported, entries, Mode.NITRO_CLI)
    assert ours.getvalue() == exported.getvalue()


def save(path: Path, chunks: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(chunks)
