"""Three parties in network namespaces and homes of their own: model owner, operator, patient."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclavectl.models.find import PACKAGED_DIR
from tests.cli.command import COMMAND
from tests.e2e.cli import Cli, sample, wait_until
from tests.net.certificates import Authority

# Of RFC 5737, for documentation.
TO_OWNER, OWNER = "203.0.113.1", "203.0.113.2"
TO_PATIENT, PATIENT = "192.0.2.1", "192.0.2.2"
SIDES = ("owner", "operator", "patient")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Parties:
    """Their command lines. The operator reaches both others; these do not reach each other."""

    owner: Cli
    operator: Cli
    patient: Cli


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making network namespaces takes root and iproute2")
    mark = f"{os.getpid():x}"
    names = {side: f"t{mark}{side[:2]}" for side in SIDES}
    try:
        for name in names.values():
            ip("netns", "add", name)
    except subprocess.CalledProcessError:
        pytest.skip("this kernel, or this container, makes no network namespaces")
    try:
        _connect(f"o{mark}", names["operator"], TO_OWNER, names["owner"], OWNER)
        _connect(f"p{mark}", names["operator"], TO_PATIENT, names["patient"], PATIENT)
        clis = {}
        for side, name in names.items():
            ip("-n", name, "link", "set", "lo", "up")
            (tmp_path / side / "home").mkdir(parents=True)
            clis[side] = Cli(tmp_path / side, program=("ip", "netns", "exec", name, str(COMMAND)))
        yield Parties(clis["owner"], clis["operator"], clis["patient"])
        for cli in clis.values():
            cli.run("terminate", "--all")
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _connect(mark: str, near: str, near_address: str, far: str, far_address: str) -> None:
    ip("link", "add", f"{mark}a", "type", "veth", "peer", "name", f"{mark}b")
    for name, device, address in ((near, f"{mark}a", near_address), (far, f"{mark}b", far_address)):
        ip("link", "set", device, "netns", name)
        ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
        ip("-n", name, "link", "set", device, "up")


def holds(folder: Path, secrets: list[bytes]) -> list[Path]:
    """The files below a folder that have one of these bytes in them."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(secret in path.read_bytes() for secret in secrets)]


def test_the_owner_releases_the_operator_runs_the_patient_diagnoses(parties: Parties) -> None:
    owner, operator, patient = parties.owner, parties.operator, parties.patient
    # The owner seals, and learns the runtime's registers from a trial on the owner's own machine.
    sealed = owner.ok("model", "seal", "demo-lesion", "--to", "demo.sealed", "--output", "json").json()
    owner.ok("run", "--name", "trial", "--model", "demo.sealed", "--release", "file:demo.key")
    owner.ok("describe", "trial", "--policy-file", "policy.yaml")
    owner.ok("terminate", "trial")
    shutil.copy(owner.base / "demo.sealed", operator.base)
    # Only to have a development root before the owner's service starts; nitro has AWS's.
    operator.ok("run", "--name", "first")
    operator.ok("terminate", "first")
    authority = Authority(owner.base)
    pair = authority.issue(OWNER)
    service = owner.start(
        *("model", "release", "demo.key", "--policy", "policy.yaml", "--root", operator.root),
        *("--listen", f"tls:{OWNER}:7443", "--cert", pair.certificate, "--cert-key", pair.key),
        *("--log", "releases.jsonl", "--lease", "1h"),
    )
    release = ("--release", f"tls:{OWNER}:7443", "--ca", authority.file)
    try:
        # Another model than the owner's: its card has another hash in PCR16.
        operator.ok("run", "--name", "skin", "--model", "demo.sealed", *release)
    finally:
        service.send_signal(signal.SIGINT)
        service.communicate(timeout=60)
    lines = [json.loads(line) for line in (owner.base / "releases.jsonl").read_text().splitlines()]
    assert [(line["result"], line["lease_s"]) for line in lines] == [("allowed", 3600)]
    assert lines[0]["pcrs"]["16"] == sealed["pcr16"]
    _diagnose_through_a_gateway(operator, patient, owner.base / "policy.yaml", sealed["pcr16"])
    # Neither the weights nor the key lie in plain with the operator.
    weights = (PACKAGED_DIR / "model.tflite").read_bytes()
    key = json.loads((owner.base / "demo.key").read_text())["key"]
    secrets = [weights[100_000:100_064], weights[-64:], bytes.fromhex(key), key.encode()]
    assert holds(operator.base, secrets) == []
    assert holds(owner.base, [key.encode()]) == [owner.base / "demo.key"]


def _diagnose_through_a_gateway(operator: Cli, patient: Cli, policy: Path, pcr16: str) -> None:
    """The patient's policy pins the runtime and the model; the evidence names both."""
    authority = Authority(operator.base)
    pair = authority.issue(TO_PATIENT)
    address = operator.ok("describe", "skin", "--output", "json").json()["enclave"]["address"]
    serve = ("--listen", f"{TO_PATIENT}:8443", "--cert", pair.certificate, "--key", pair.key, "--anonymous")
    gateway = operator.start("gateway", *serve, "--to", f"skin@{address}")
    try:
        proof = ("--policy", policy, "--root", operator.root, "--ca", authority.file)
        asked = ("diagnose", "--connect", f"wss://{TO_PATIENT}:8443/v1", *proof, sample("bcc"))
        wait_until(lambda: patient.run(*asked).status == 0, "the gateway is ready")
        found = patient.ok(*asked, "--evidence", "evidence.json", "--output", "json").json()
        assert [result["label"]["code"] for result in found["results"]] == ["bcc"]
        assert (
            pcr16
            in patient.ok(
                "verify", "evidence.json", "--output", "json", "--policy", policy, "--root", operator.root
            ).out
        )
    finally:
        gateway.terminate()
        gateway.communicate(timeout=60)
