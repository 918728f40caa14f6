"""Sealed models on the backend nitro: the release port is 5007 on vsock, the owner's program a client."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, sample, wait_until
from tests.net.certificates import Authority
from tests.nitro.cli import NitroCli
from tests.nitro.host import FakeHost, write_image


@dataclass(frozen=True, slots=True)
class Parties:
    """An operator with a runtime image, and a model's owner with a sealed model and a policy."""

    operator: NitroCli
    owner: Cli

    @property
    def policy(self) -> Path:
        return self.owner.base / "policy.yaml"

    @contextmanager
    def service(self) -> Iterator[tuple[str | Path, ...]]:
        """The owner's service, until the block ends: the operator's options that lead to it."""
        authority = Authority(self.owner.base)
        pair = authority.issue("127.0.0.1")
        root = self.operator.fake.home / "root.pem"
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"tls:127.0.0.1:{free.getsockname()[1]}"
        service = self.owner.start(
            *("model", "release", "m.key", "--policy", self.policy, "--root", root, "--log", "log"),
            *("--listen", address, "--cert", pair.certificate, "--cert-key", pair.key),
        )
        try:
            yield "--release", address, "--ca", authority.file
        finally:
            service.send_signal(signal.SIGINT)
            service.communicate(timeout=60)

    def log(self) -> list[tuple[str, str | None]]:
        """What the owner's log says of each try."""
        lines = map(json.loads, (self.owner.base / "log").read_text().splitlines())
        return [(line["result"], line["error"] and line["error"].partition(":")[0]) for line in lines]


@pytest.fixture
def parties(tmp_path: Path, host: FakeHost) -> Iterator[Parties]:
    host.set(sealed=True)
    write_image(host.eif, is_sealed=True)
    for name in ("operator", "owner"):
        (tmp_path / name / "home").mkdir(parents=True)
    operator, owner = NitroCli(tmp_path / "operator", host=host), Cli(tmp_path / "owner")
    owner.ok("model", "seal", "demo-lesion", "--to", "m.sealed")
    owner.ok("policy", "new", "--from-lock", host.lock, "--model", "m.sealed", "--to", "policy.yaml")
    policy = owner.base / "policy.yaml"
    policy.write_text(policy.read_text().replace("accept: [nitro]", "accept: [simulated]"))
    yield Parties(operator, owner)
    operator.run("terminate", "--all")
    wait_until(lambda: not operator.keepers(), "keepers end with their enclaves")


def test_the_owner_releases_to_the_enclave_that_proves_itself_and_to_no_other(parties: Parties) -> None:
    operator, model = parties.operator, parties.owner.base / "m.sealed"
    run = ("run", operator.fake.eif, "--model", model)
    with parties.service() as release:
        assert operator.refused(5, *run, *release, "--debug", "--name", "bare")["code"] == "not-released"
        assert operator.records() == []
        ran = operator.ok(*run, *release, "--name", "skin", "-o", "json").json()
    assert parties.log() == [("refused", "debug-mode"), ("allowed", None)]
    assert ran["weights"] == {"state": "SERVING", "waiting_for": None}
    assert ran["enclave"]["model"]["id"] == "demo-lesion"
    assert ran["attested"]["model_pinned"] is True
    (listed,) = operator.ok("list", "-o", "json").json()["enclaves"]
    assert listed["weights"] == ran["weights"]
    root = operator.fake.home / "root.pem"
    address = ran["enclave"]["address"]
    proof = ("--connect", address, "--policy", parties.policy, "--root", root)
    answer = operator.ok("diagnose", *proof, sample("nv"), "-o", "json").json()
    assert answer["results"][0]["label"]["code"] == "nv"
    assert answer["evidence"]["pcrs"]["16"] == ran["enclave"]["pcrs"]["16"]


def test_an_image_and_a_model_that_do_not_belong_together_start_nothing(parties: Parties) -> None:
    operator, model = parties.operator, parties.owner.base / "m.sealed"
    image = operator.fake.eif
    assert operator.refused(2, "run", image)["code"] == "image-without-weights"
    key = parties.owner.base / "m.key"
    assert (
        "trials" in operator.refused(2, "run", image, "--model", model, "--release", f"file:{key}")["message"]
    )
    write_image(image)
    assert operator.refused(2, "run", image, "--model", model)["code"] == "image-with-weights"
    assert operator.records() == []
