"""Three parties of a sealed model, in network namespaces and homes of their own: owner, operator, patient."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from enclavectl.models.find import PACKAGED_DIR
from tests.cli.command import COMMAND
from tests.e2e.cli import Cli, sample, wait_until
from tests.net.certificates import Authority

# Of RFC 5737, for documentation.
TO_OWNER, OWNER = "203.0.113.1", "203.0.113.2"
TO_PATIENT, PATIENT = "192.0.2.1", "192.0.2.2"
_SIDES = ("owner", "operator", "patient")
_PIECE = 48


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Parties:
    """Their command lines. The operator reaches both others; these do not reach each other."""

    owner: Cli
    operator: Cli
    patient: Cli
    # What the owner and the patient say to documents that AWS's root did not sign.
    root: Sequence[str | Path]

    @property
    def policy(self) -> Path:
        """The owner's and the patient's policy."""
        return self.owner.base / "policy.yaml"

    @contextmanager
    def release_service(self) -> Iterator[tuple[subprocess.Popen[str], Sequence[str | Path]]]:
        """The owner's service, and the operator's options that lead to it."""
        authority = Authority(self.owner.base)
        pair = authority.issue(OWNER)
        service = self.owner.start(
            *("model", "release", "demo.key", "--policy", self.policy, *self.root),
            *("--listen", f"tls:{OWNER}:7443", "--cert", pair.certificate, "--cert-key", pair.key),
            *("--log", "releases.jsonl", "--lease", "1h"),
        )
        try:
            yield service, ("--release", f"tls:{OWNER}:7443", "--ca", authority.file)
        finally:
            service.send_signal(signal.SIGINT)
            service.communicate(timeout=60)

    def releases(self) -> list[dict[str, Any]]:
        """The lines of the owner's log."""
        return [json.loads(line) for line in (self.owner.base / "releases.jsonl").read_text().splitlines()]

    @contextmanager
    def gateway(self) -> Iterator[tuple[int, Sequence[str | Path]]]:
        """The operator's gateway: its process, and the patient's options that lead through it."""
        authority = Authority(self.operator.base)
        pair = authority.issue(TO_PATIENT)
        found = self.operator.ok("describe", "skin", "--output", "json").json()
        address = found["enclave"]["address"]
        serve = ("--listen", f"{TO_PATIENT}:8443", "--cert", pair.certificate, "--key", pair.key)
        process = self.operator.start("gateway", *serve, "--anonymous", "--to", f"skin@{address}")
        proof = ("--policy", self.policy, *self.root, "--ca", authority.file)
        try:
            yield process.pid, ("--connect", f"wss://{TO_PATIENT}:8443/v1", *proof)
        finally:
            process.terminate()
            process.communicate(timeout=60)

    def diagnose(self, through: Sequence[str | Path], pcr16: str) -> None:
        """The patient's answer, whose evidence names the runtime and the model."""
        asked = ("diagnose", *through, sample("bcc"))
        wait_until(lambda: self.patient.run(*asked).status == 0, "the gateway is ready", 120)
        found = self.patient.ok(*asked, "--evidence", "evidence.json", "--output", "json").json()
        assert [result["label"]["code"] for result in found["results"]] == ["bcc"]
        judged = ("verify", "evidence.json", "--output", "json", "--policy", self.policy, *self.root)
        assert pcr16 in self.patient.ok(*judged).out

    def secrets(self) -> Secrets:
        """What must lie nowhere in plain but with the owner and in the enclave."""
        key = json.loads((self.owner.base / "demo.key").read_text())["key"]
        return Secrets(
            weights=pieces_of((PACKAGED_DIR / "model.tflite").read_bytes()), key=bytes.fromhex(key)
        )


def pieces_of(weights: bytes) -> list[bytes]:
    """Pieces from all over the weights that cannot be there by chance: no run of one byte."""
    places = range(4096, len(weights) - _PIECE, len(weights) // 16)
    pieces = [weights[place : place + _PIECE] for place in places]
    return [piece for piece in pieces if len(set(piece)) > _PIECE // 2]


@dataclass(frozen=True, slots=True)
class Secrets:
    """Bytes to search for."""

    weights: list[bytes]
    key: bytes

    def found_in(self, data: bytes) -> set[str]:
        """Which of the secrets these bytes have, in any form that is looked for."""
        has_weights = any(piece in data for piece in self.weights)
        has_key = self.key in data or self.key.hex().encode() in data
        return {name for name, has in (("weights", has_weights), ("key", has_key)) if has}

    def in_files(self, folder: Path) -> dict[str, set[str]]:
        """The files below a folder that have some."""
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        found = {str(path.relative_to(folder)): self.found_in(path.read_bytes()) for path in files}
        return {name: secrets for name, secrets in found.items() if secrets}

    def in_memory(self, pid: int) -> set[str]:
        """Which of them a process has in its memory; only what was written counts, not the mapped files."""
        found: set[str] = set()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for start, end in _written(pid):
                memory.seek(start)
                found |= self.found_in(memory.read(end - start))
        return found


def descendants(pid: int) -> list[int]:
    """The processes below one."""
    children = [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]
    return children + [below for child in children for below in descendants(child)]


def _written(pid: int) -> Iterator[tuple[int, int]]:
    """The mappings of a process that hold pages of its own."""
    start, end = 0, 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and ":" not in words[0]:
            low, high = words[0].split("-")
            start, end = (int(low, 16), int(high, 16)) if words[1].startswith("r") else (0, 0)
        elif words[0] == "Anonymous:" and int(words[1]) and end:
            yield start, end


@contextmanager
def three_parties(
    folder: Path, *, operator: Mapping[str, str], root: Sequence[str | Path] | None
) -> Iterator[Parties]:
    """Make the parties; ``operator`` are that one's variables, ``root`` None: the operator's own root."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making network namespaces takes root and iproute2")
    mark = f"{os.getpid():x}"
    names = {side: f"t{mark}{side[:2]}" for side in _SIDES}
    try:
        for name in names.values():
            ip("netns", "add", name)
    except subprocess.CalledProcessError:
        pytest.skip("this kernel, or this container, makes no network namespaces")
    try:
        _connect(f"o{mark}", names["operator"], TO_OWNER, names["owner"], OWNER)
        _connect(f"p{mark}", names["operator"], TO_PATIENT, names["patient"], PATIENT)
        made = {}
        for side, name in names.items():
            ip("-n", name, "link", "set", "lo", "up")
            (folder / side / "home").mkdir(parents=True)
            program = ("ip", "netns", "exec", name, str(COMMAND))
            variables = operator if side == "operator" else {}
            made[side] = Cli(folder / side, program=program, variables=variables, timeout_s=300)
        own = ("--root", made["operator"].root)
        yield Parties(made["owner"], made["operator"], made["patient"], own if root is None else root)
        for cli in made.values():
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
