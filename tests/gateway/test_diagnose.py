"""``enclavectl diagnose`` through ``enclavectl gateway``: two commands, two users' folders, one enclave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from enclavectl.attestation import TrustRoot
from enclavectl.attestation.policy_file import render_policy
from tests.e2e.cli import Cli, kill, sample
from tests.e2e.terminals import Terminal
from tests.gateway.conftest import Authority
from tests.gateway.process import GatewayProcess, gateway, run_command, wait_until
from tests.local_enclave import LocalEnclave

PICTURES = ("bcc", "mel", "nv")


@dataclass(frozen=True, slots=True)
class Owner:
    """A data owner's folder: a policy, a root, and what the gateway demands."""

    cli: Cli
    authority: Authority

    def diagnose(self, *words: str | Path) -> Any:
        pictures = [sample(code) for code in PICTURES]
        return self.cli.ok("diagnose", *words, *pictures, "--output", "json").json()

    def of_policy(self) -> Sequence[str | Path]:
        return ("--policy", self.cli.base / "policy.yaml", "--root", self.cli.base / "root.pem")


@pytest.fixture
def owner(tmp_path: Path, enclave: LocalEnclave, authority: Authority) -> Owner:
    base = tmp_path / "owner"
    (base / "home").mkdir(parents=True)
    (base / "policy.yaml").write_text(render_policy(enclave.expectation.policy))
    assert isinstance(enclave.expectation.root, TrustRoot)
    root = x509.load_der_x509_certificate(enclave.expectation.root.certificate_der)
    (base / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    return Owner(Cli(base), authority)


@contextmanager
def started(folder: Path, enclave: LocalEnclave, *words: str) -> Iterator[GatewayProcess]:
    with gateway(folder / "g", [f"skin-1@{enclave.address}"], *words) as running:
        yield running


def codes(value: Any) -> list[str]:
    return [result["label"]["code"] for result in value["results"]]


@pytest.mark.parametrize("form", ["ws://127.0.0.1:{}/v1", "ws://localhost:{}/v1/skin-1", "tcp:127.0.0.1:{}"])
def test_on_one_machine(tmp_path: Path, enclave: LocalEnclave, owner: Owner, form: str) -> None:
    with started(tmp_path, enclave) as running:
        value = owner.diagnose("--connect", form.format(running.port), *owner.of_policy())
        [record] = running.wait_for_records(1)
    assert codes(value) == list(PICTURES)
    assert (record["requests"], record["outcome"]) == (3, "served")


def test_over_wss_with_a_token_that_is_revoked_later(
    tmp_path: Path, enclave: LocalEnclave, owner: Owner, authority: Authority
) -> None:
    folder = tmp_path / "g"
    folder.mkdir(mode=0o700)
    token = run_command(folder, "gateway", "token", "add", "hospital").stdout.strip()
    (owner.cli.base / "token").write_text(token)
    with started(tmp_path, enclave, *authority.arguments) as running:
        address = f"wss://localhost:{running.port}"
        ca = ("--ca", authority.folder / "ca.pem")
        add = ("remote", "add", "hospital", address, *owner.of_policy(), *ca)
        owner.cli.ok(*add, "--token-file", owner.cli.base / "token", "--default")
        owner.cli.ok("remote", "check", "hospital")
        assert codes(owner.diagnose()) == list(PICTURES)
        missing = owner.cli.refused(
            2, "diagnose", "--connect", address, *owner.of_policy(), *ca, sample("bcc")
        )
        assert missing["code"] == "token-missing"
        run_command(folder, "gateway", "token", "revoke", "hospital")
        assert owner.cli.refused(2, "diagnose", sample("bcc"))["code"] == "token-refused"
        assert token not in running.log + running.notes


def test_frames_over_tls_with_a_certificate_and_a_pin(
    tmp_path: Path, enclave: LocalEnclave, owner: Owner, authority: Authority
) -> None:
    certificate = x509.load_pem_x509_certificate((authority.folder / "server.pem").read_bytes())
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin = ("--tls-pin", f"sha256:{sha256(spki).hexdigest()}")
    mine = ("--client-cert", authority.folder / "client.pem", "--client-key", authority.folder / "client.key")
    with started(
        tmp_path, enclave, *authority.arguments, "--client-ca", str(authority.folder / "ca.pem")
    ) as running:
        to = ("--connect", f"tls:localhost:{running.port}", *owner.of_policy(), *pin)
        assert codes(owner.diagnose(*to, *mine)) == list(PICTURES)
        [record] = running.wait_for_records(1)
        assert record["client"] == "clinic.example"
        error = owner.cli.refused(5, "diagnose", *to, sample("bcc"))
        assert error["code"] == "refused-protocol"
        assert "--client-cert" in error["hint"]


def test_a_release_that_is_not_here(tmp_path: Path, enclave: LocalEnclave, owner: Owner) -> None:
    with started(tmp_path, enclave) as running:
        to = ("--connect", f"ws://127.0.0.1:{running.port}/v1/skin-2", *owner.of_policy())
        error = owner.cli.refused(6, "diagnose", *to, sample("bcc"))
    assert error["code"] == "no-such-release"
    assert "expected the release skin-2, found that the gateway has skin-1" in error["message"]


def folder_of(owner: Owner, count: int) -> Path:
    folder = owner.cli.base / "pictures"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03}.png").symlink_to(sample(PICTURES[number % 3]))
    return folder


def test_an_enclave_that_is_killed_in_the_middle_of_requests_costs_no_picture(
    tmp_path: Path, owner: Owner
) -> None:
    """kill -9 of one of two: the client verifies the other, and sends it what has no answer."""
    (tmp_path / "operator" / "home").mkdir(parents=True)
    operator = Cli(tmp_path / "operator")
    enclaves = {}
    for name in ("one", "two"):
        enclave = operator.ok("run", "--name", name, "--output", "json").json()["enclave"]
        enclaves[enclave["address"]] = enclave["pid"]
    operator.ok("describe", "one", "--policy-file", tmp_path / "policy.yaml")
    (tmp_path / "policy.yaml").replace(owner.cli.base / "policy.yaml")
    (owner.cli.base / "root.pem").write_bytes(operator.root.read_bytes())
    to, folder = [f"skin-1@{address}" for address in enclaves], folder_of(owner, 200)
    try:
        with gateway(tmp_path / "g", to) as running:
            wait_until(lambda: running.notes.count(" answers") == 2, "both answer")
            command = ("diagnose", "--connect", f"ws://127.0.0.1:{running.port}", *owner.of_policy())
            terminal = Terminal(owner.cli.start(*command, folder))
            terminal.await_out("000.png")
            # Of two that have no session, the first is chosen.
            kill(next(iter(enclaves.values())))
            done = terminal.end()
            assert done.status == 0, done.err
            records = running.wait_for_records(2)
    finally:
        operator.run("terminate", "--all")
    assert [record["outcome"] for record in records] == ["enclave_ended", "served"]
    assert done.out.count(".png") == 200
    assert "going on with another enclave for the pictures that remain" in done.err
    assert "verified, of a later session" in done.out


def test_a_gateway_that_is_restarted_costs_no_picture(
    tmp_path: Path, enclave: LocalEnclave, owner: Owner
) -> None:
    """SIGTERM in the middle of a batch: the session is drained, and the rest goes to the next gateway."""
    folder = folder_of(owner, 400)
    with started(tmp_path, enclave) as first:
        to = ("--connect", f"ws://127.0.0.1:{first.port}", *owner.of_policy())
        terminal = Terminal(owner.cli.start("diagnose", *to, folder))
        terminal.await_out("000.png")
        assert first.stop() == 0
    with gateway(
        tmp_path / "g", [f"skin-1@{enclave.address}"], "--listen", f"127.0.0.1:{first.port}"
    ) as second:
        done = terminal.end()
        assert done.status == 0, done.err
        [record] = second.wait_for_records(1)
    assert 0 < record["requests"] < 400
    assert done.out.count(".png") == 400
    assert "going on with another enclave for the pictures that remain" in done.err
