"""Two network namespaces: one with an enclave and its gateway, one with a client and an invitation."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND
from tests.e2e.cli import CODES, Cli, sample, wait_until
from tests.net.certificates import Authority

FOLDER = 90
# Of RFC 5737, for documentation: no route of this machine leads there.
GATEWAY, CLIENT, NOWHERE = "192.0.2.1", "192.0.2.2", "198.51.100.1"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Hosts:
    """The two command lines, and the commands of each in its namespace."""

    operator: Cli
    owner: Cli


def spoil(namespace: str, device: str, faults: str) -> None:
    """Delay packets, and lose some."""
    if shutil.which("tc") is None:
        pytest.skip("no tc of iproute2 on PATH to make a wire slow and lossy")
    argv = ["tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "netem", *faults.split()]
    ran = subprocess.run(argv, check=False, capture_output=True, text=True)
    if ran.returncode != 0:
        pytest.skip(f"this kernel has no netem ({ran.stderr.strip()})")


@pytest.fixture(params=["", "delay 10ms 2ms loss 0.5%"], ids=["near", "slow-and-lossy"])
def hosts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Two hosts on one wire; the wire's faults are those of ``netem``, each way, where this kernel has it."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making network namespaces takes root and iproute2")
    mark = f"{os.getpid():x}"
    names = [f"e{mark}a", f"e{mark}b"]
    try:
        for name in names:
            ip("netns", "add", name)
    except subprocess.CalledProcessError:
        pytest.skip("this kernel, or this container, makes no network namespaces")
    devices = [f"v{mark}a", f"v{mark}b"]
    try:
        ip("link", "add", devices[0], "type", "veth", "peer", "name", devices[1])
        for name, device, address in zip(names, devices, (GATEWAY, CLIENT), strict=True):
            ip("link", "set", device, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
            if request.param:
                spoil(name, device, request.param)
        clis = []
        for name, side in zip(names, ("operator", "owner"), strict=True):
            (tmp_path / side / "home").mkdir(parents=True)
            clis.append(Cli(tmp_path / side, program=("ip", "netns", "exec", name, str(COMMAND))))
        yield Hosts(clis[0], clis[1])
        clis[0].run("terminate", "--all")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def codes(value: Any) -> list[str]:
    return [result["label"]["code"] for result in value["results"]]


def folder_by_results(owner: Cli) -> None:
    """The daily command of docs/remote.md, killed in the middle, and run again until it is complete."""
    folder, out = owner.base / "folder", owner.base / "out.csv"
    folder.mkdir()
    for number in range(FOLDER):
        (folder / f"{number:02}.png").symlink_to(sample(CODES[number % 7]))
    command = ("diagnose", "--remote", "hospital", "folder", "--results", out)
    killed = owner.start(*command)
    wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") > 10, "answers are written")
    killed.kill()  # `ip netns exec` becomes the command
    killed.communicate()
    with out.open(newline="") as file:
        before = len(list(csv.DictReader(file)))
    assert before < FOLDER
    value = owner.ok(*command, "--output", "json").json()
    assert (value["complete"], value["answered"], value["earlier"]) == (True, FOLDER, before)
    with out.open(newline="") as file:
        rows = [(row["image"], row["label"]) for row in csv.DictReader(file)]
    assert sorted(rows) == [(f"folder/{number:02}.png", CODES[number % 7]) for number in range(FOLDER)]


def test_from_the_invitation_to_the_answers(hosts: Hosts) -> None:
    operator, owner = hosts.operator, hosts.owner
    authority = Authority(operator.base)
    pair = authority.issue(GATEWAY)
    operator.ok("run", "--name", "first")
    operator.ok("describe", "first", "--policy-file", "policy.yaml")
    address = operator.ok("describe", "first", "--output", "json").json()["enclave"]["address"]
    (operator.base / "token").write_text(operator.ok("gateway", "token", "add", "hospital").out)
    serve = ("--listen", f"{GATEWAY}:8443", "--cert", pair.certificate, "--key", pair.key)
    gateway = operator.start("gateway", *serve, "--to", f"skin-1@{address}")
    try:
        invited = operator.ok(
            *("remote", "invite", f"wss://{GATEWAY}:8443", "--policy", "policy.yaml"),
            *("--token-file", "token", "--ca", authority.file, "--root", operator.root),
            *("--write", owner.base / "mail.txt", "--output", "json"),
        ).json()
        pcr0 = invited["releases"][0]["pcr0"]
        compared = ("--expect-pcr0", pcr0, "--root", operator.root)
        owner.ok("remote", "add", "hospital", "--from", "mail.txt", *compared)
        wait_until(lambda: owner.run("remote", "check", "hospital").status == 0, "the gateway is ready")
        folder_by_results(owner)
        pictures = [sample(code) for code in ("bcc", "mel", "nv")]
        found = owner.ok("diagnose", "--remote", "hospital", *pictures, "--output", "json").json()
        assert codes(found) == ["bcc", "mel", "nv"]
        owner.ok("remote", "update", "hospital", "--address", f"wss://{NOWHERE}")
        assert owner.refused(6, "diagnose", "--remote", "hospital", pictures[0])["code"] == "no-route"
        owner.ok("remote", "update", "hospital", "--address", f"wss://{GATEWAY}")
        assert owner.refused(6, "diagnose", "--remote", "hospital", pictures[0])["code"] == "not-listening"
    finally:
        gateway.terminate()
        _, notes = gateway.communicate(timeout=60)
    assert gateway.returncode == 0, notes
