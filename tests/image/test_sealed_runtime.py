"""Real parts: a runtime without weights, built with Docker; and three parties with it behind QEMU."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from enclavectl.models.find import PACKAGED_DIR
from tests.e2e.cli import wait_until
from tests.e2e.parties import pieces_of, three_parties
from tests.image.engine import BASE_IMAGE, Lane
from tests.image.guest import qemu_parts

# An emulated machine boots for long, beside others.
_BOOT_S = 240.0


def ramdisks(lane: Lane, image: Path, folder: Path) -> bytes:
    """What an image unpacks at its boot."""
    done = lane.run("eif", "extract", image, "--to", folder)
    assert done.status == 0, done.err
    return b"".join(path.read_bytes() for path in sorted(folder.glob("ramdisk*.cpio")))


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_the_runtime_has_no_weights_and_no_register_of_a_model(
    lane: Lane, payload: Path, tmp_path: Path
) -> None:
    done = lane.build(tmp_path / "runtime", "--model", "none", "--base-image", BASE_IMAGE)
    assert done.status == 0, done.err
    lock = json.loads((tmp_path / "runtime" / "enclavectl.lock.json").read_bytes())
    assert lock["model"] is None
    assert set(lock["pcrs"]) == {"PCR0", "PCR1", "PCR2"}
    pieces = pieces_of((PACKAGED_DIR / "model.tflite").read_bytes())
    bare = ramdisks(lane, tmp_path / "runtime" / "enclave.eif", tmp_path / "bare")
    baked = ramdisks(lane, payload / "enclave.eif", tmp_path / "baked")
    assert [piece in bare for piece in pieces] == [False] * len(pieces)
    assert [piece in baked for piece in pieces] == [True] * len(pieces)


@pytest.mark.docker
@pytest.mark.qemu
@pytest.mark.timeout(900)
def test_three_parties_behind_qemu(lane: Lane, tmp_path: Path) -> None:
    parts = qemu_parts()
    image, lock = tmp_path / "runtime.eif", tmp_path / "enclavectl.lock.json"
    blobs = tmp_path / "blobs"
    done = lane.run("kernel", "prepare", "--root", parts.kernel_root, "--to", blobs)
    assert done.status == 0, done.err
    outputs = ("--to", image, "--lock", lock, "--blobs", blobs)
    done = lane.run("build", "--model", "none", "--base-image", BASE_IMAGE, *outputs)
    assert done.status == 0, done.err
    variables = {
        "ENCLAVECTL_BACKEND": "qemu",
        "ENCLAVECTL_QEMU_PROGRAM": str(parts.qemu),
        "ENCLAVECTL_ENCLAVE_MEMORY_MIB": "1024",
        "ENCLAVECTL_ENCLAVE_CPUS": "2",
    }
    with three_parties(tmp_path, operator=variables, root=()) as parties:
        owner, operator = parties.owner, parties.operator
        sealed = owner.ok("model", "seal", "demo-lesion", "--to", "demo.sealed", "--output", "json").json()
        owner.ok("policy", "new", "--from-lock", lock, "--model", "demo.sealed", "--to", parties.policy)
        policy = parties.policy.read_text()
        parties.policy.write_text(policy.replace("accept: [nitro]", "accept: [emulated]"))
        shutil.copy(owner.base / "demo.sealed", operator.base)
        secrets = parties.secrets()
        run = ("run", image, "--foreground", "--name", "skin", "--model", "demo.sealed")
        with parties.release_service() as (_, release):
            bringing = operator.start(*run, *release)
            states: list[str | None] = []

            def is_serving() -> bool:
                assert bringing.poll() is None, bringing.communicate()
                found = operator.ok("list", "--output", "json").json()["enclaves"]
                states.extend(one["weights"]["state"] for one in found)
                return states[-1:] == ["SERVING"]

            wait_until(is_serving, "it serves", _BOOT_S)
        (line,) = parties.releases()
        assert (line["result"], line["trust"], line["pcrs"]["16"]) == ("allowed", "emulated", sealed["pcr16"])
        with parties.gateway() as (gateway, through):
            parties.diagnose((*through, "--timeout", "120"), sealed["pcr16"])
            keeper = operator.ok("list", "--output", "json").json()["enclaves"][0]["pid"]
            for pid in (bringing.pid, keeper, gateway):
                assert secrets.in_memory(pid) == set()
        assert secrets.in_memory(os.getpid()) == {"weights", "key"}
        bringing.send_signal(signal.SIGTERM)
        _, err = bringing.communicate(timeout=60)
        assert bringing.returncode == 0, err
        assert secrets.in_files(operator.base) == {}
        assert secrets.in_files(parties.patient.base) == {}
