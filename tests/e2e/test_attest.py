"""``attest``: evidence asked for, kept and judged, and judged again by ``verify`` with nothing but files."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from enclavectl.net.address import UnixAddress
from tests.e2e.cli import Cli
from tests.e2e.test_attestation import honest, write_trust
from tests.evil import CHALLENGE_FRAME_BYTES, Lies, enclave_script, start_evil
from tests.in_process import new_root, simulated_nsm


def test_evidence_is_kept_and_is_worth_as_much_elsewhere(shared: Cli) -> None:
    shared.ok("describe", "shared", "--policy-file", "policy.yaml")
    attested = shared.ok(
        "attest", "shared", "--policy", "policy.yaml", "--out", "kept.json", "-o", "json"
    ).json()
    assert (attested["verified"], attested["fresh"], attested["trust"]) == (True, True, "simulated")
    kept = shared.base / "kept.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    verify = ("verify", "kept.json", "--root", shared.root, "--policy", "policy.yaml", "--output", "json")
    again = shared.ok(*verify, "--at", "document").json()
    assert (again["verified"], again["fresh"]) == (True, False)
    assert again["module_id"] == attested["module_id"]
    nonce = shared.ok(*verify, "--nonce", _nonce(kept)).json()
    assert nonce["fresh"]


def _nonce(path: Path) -> str:
    import base64

    return base64.b64decode(json.loads(path.read_text())["nonce"]).hex()


def test_without_a_policy_it_is_kept_and_not_judged(shared: Cli) -> None:
    done = shared.ok("attest", "shared", "--out", "unjudged.json")
    assert done.out.startswith("NOT JUDGED  unjudged.json")
    assert "NOT JUDGED" in done.err
    assert (shared.base / "unjudged.json").exists()
    refused = shared.run("verify", "unjudged.json", "--root", shared.root, "--output", "json")
    assert (refused.status, refused.error()["code"]) == (4, "no-policy")


def test_evidence_is_never_written_over_nor_half(shared: Cli) -> None:
    (shared.base / "mine.json").write_text("mine")
    (shared.base / "closed").mkdir(mode=0o500)
    for out, told in (
        ("mine.json", "never written over"),
        ("gone/e.json", "gone"),
        ("/proc/e.json", "/proc"),
    ):
        error = shared.refused(2, "attest", "shared", "--out", out)
        assert told in str(error["message"]) + str(error["hint"])
    assert (shared.base / "mine.json").read_text() == "mine"
    assert not list(shared.base.glob(".enclavectl-*"))


@pytest.mark.parametrize("out", ["gone/evidence.json", "there.json"])
def test_nothing_is_sent_where_the_evidence_cannot_be_kept(cli: Cli, out: str) -> None:
    (cli.base / "there.json").write_text("mine")
    address = UnixAddress(cli.base / "e.sock")
    with start_evil(address, honest(new_root())) as evil:
        cli.refused(2, "attest", str(address), "--out", out)
        assert bytes(evil.received) == b""


def test_refused_evidence_is_kept_for_those_who_look_into_it(cli: Cli) -> None:
    root = new_root()
    address = UnixAddress(cli.base / "e.sock")
    lies = Lies(document=lambda document: document[:-1] + bytes([document[-1] ^ 1]))
    arguments = [*write_trust(cli.base, root)]
    with start_evil(address, enclave_script(simulated_nsm(root), lies)) as evil:
        done = cli.run("attest", str(address), *arguments[2:], "--output", "json", "--out", "bad.json")
        assert len(evil.received) == CHALLENGE_FRAME_BYTES
    assert (done.status, done.error()["code"]) == (4, "signature")
    again = cli.run("verify", "bad.json", "--no-policy", "--root", "root.pem", "--output", "json")
    assert (again.status, again.error()["code"]) == (4, "signature")


def test_a_target_that_is_none_is_named(cli: Cli) -> None:
    assert cli.run("attest", "nobody").status == 6
    assert cli.run("attest", "vsock:16").status == 2
    assert "expected wss://" in str(cli.refused(2, "attest", "http://example.org/v1")["message"])
    assert cli.run("attest", "first", "--root", "root.pem").status == 2
    assert cli.run("attest", f"unix:{cli.base}/nobody.sock").status == 6
