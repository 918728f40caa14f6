"""``--evidence`` of diagnose, send and listen, and what a third party reads from it with files alone."""

from __future__ import annotations

import json
import stat

import pytest

from enclavectl.net.address import UnixAddress
from tests.e2e.cli import Cli, sample
from tests.e2e.test_attestation import honest, write_trust
from tests.evil import start_evil
from tests.in_process import new_root

# All that a file has: no picture, no file name, no reply key.
MEMBERS = {
    *("schema", "document", "key_config", "nonce", "requested_at", "root", "lock_sha256"),
    *("policy_sha256", "policy", "receipts", "tool", "content_sha256"),
}


@pytest.fixture(scope="module")
def judge(shared: Cli) -> list[str]:
    """The options of somebody who has the policy and the root, long after the session."""
    shared.ok("describe", "shared", "--policy-file", "policy.yaml")
    (shared.base / "root.pem").write_bytes(shared.root.read_bytes())
    return ["--policy", "policy.yaml", "--root", "root.pem", "--at", "document"]


def test_one_answer_is_read_and_held_to_its_picture(shared: Cli, judge: list[str]) -> None:
    asked = shared.ok(
        "diagnose", "--evidence", "one.json", "--include-statements", sample("bcc"), "-o", "json"
    )
    assert "whoever has it can test whether a picture" in asked.err
    assert stat.S_IMODE((shared.base / "one.json").stat().st_mode) == 0o600
    found = shared.ok("verify", "one.json", *judge, "--picture", sample("bcc"), "-o", "json").json()
    assert found["verified"]
    [answer] = found["answers"]
    assert answer["probabilities"] == asked.json()["results"][0]["probabilities"]
    assert answer["picture_sha256"] == asked.json()["results"][0]["sha256"]
    other = shared.run("verify", "one.json", *judge, "--picture", sample("mel"), "-o", "json")
    assert (other.status, other.error()["code"]) == (4, "picture-mismatch")
    told = shared.run("verify", "one.json", *judge, "--picture", sample("mel"))
    assert told.out.startswith("REFUSED (picture-mismatch)")
    assert "NOT SHOWN: 1 answer was read, but the check of picture failed" in told.out
    assert "%" not in told.out


def test_without_statements_the_file_holds_no_answer_and_no_picture(shared: Cli, judge: list[str]) -> None:
    shared.ok("diagnose", "--evidence", "bare.json", sample("bcc"))
    value = json.loads((shared.base / "bare.json").read_text())
    [receipt] = value["receipts"]
    assert (receipt["request_statement"], receipt["answer_statement"]) == (None, None)
    assert {key for key in value if key not in MEMBERS} == set()
    found = shared.ok("verify", "bare.json", *judge, "-o", "json").json()
    assert (len(found["receipts"]), found["answers"]) == (1, [])


def test_a_batch_has_its_receipts_as_lines_beside_it(shared: Cli, judge: list[str]) -> None:
    shared.ok("diagnose", "--evidence", "many.json", sample("bcc"), sample("mel"), sample("nv"))
    lines = (shared.base / "many.receipts.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["index"] for line in lines) == [0, 1, 2]
    assert stat.S_IMODE((shared.base / "many.receipts.jsonl").stat().st_mode) == 0o600
    assert ".png" not in "".join(lines)
    found = shared.ok("verify", "many.receipts.jsonl", "--document", "many.json", *judge, "-o", "json").json()
    assert len(found["receipts"]) == 3
    refused = shared.run("verify", "many.receipts.jsonl", *judge, "-o", "json")
    assert (refused.status, refused.error()["code"]) == (2, "no-document")


def test_what_send_handed_in_and_listen_received_is_kept_by_both(shared: Cli, judge: list[str]) -> None:
    listen = ("listen", "--count", "1", "--timeout", "60", "--evidence", "heard.json", "--include-statements")
    with shared.start(*listen) as listener:
        shared.ok("send", "--evidence", "sent.json", sample("mel"))
        _, err = listener.communicate(timeout=60)
    assert listener.returncode == 0, err
    assert shared.ok("verify", "sent.json", *judge).out.startswith("VERIFIED")
    heard = ("verify", "heard.receipts.jsonl", "--document", "heard.json", *judge)
    found = shared.ok(*heard, "--picture", sample("mel"), "-o", "json").json()
    assert len(found["answers"]) == 1
    sent, kept = (json.loads((shared.base / name).read_text()) for name in ("sent.json", "heard.json"))
    assert (sent["document"], sent["requested_at"]) == (kept["document"], kept["requested_at"])


@pytest.mark.parametrize("arguments", [["--evidence", "there.json"], ["--evidence", "gone/e.json"]])
def test_nothing_is_sent_where_evidence_cannot_be_kept(cli: Cli, arguments: list[str]) -> None:
    (cli.base / "there.json").write_text("mine")
    root = new_root()
    address = UnixAddress(cli.base / "e.sock")
    trust = write_trust(cli.base, root)
    with start_evil(address, honest(root)) as evil:
        for command in ("diagnose", "send"):
            cli.refused(2, command, "--connect", str(address), *trust, *arguments, sample("bcc"))
        assert bytes(evil.received) == b""
    assert (cli.base / "there.json").read_text() == "mine"
    assert sorted(path.name for path in cli.base.iterdir() if "e.json" in path.name) == ["there.json"]


@pytest.mark.parametrize(
    ("option", "path"), [("--report", "./e.json"), ("--report", "e.receipts.jsonl"), ("--results", "e.csv")]
)
def test_evidence_has_files_of_its_own(cli: Cli, option: str, path: str) -> None:
    evidence = "e.csv" if option == "--results" else "e.json"
    error = cli.refused(2, "diagnose", "--evidence", evidence, option, path, sample("bcc"))
    assert f"{option} and --evidence: expected two files" in str(error["message"])
    assert [found.name for found in cli.base.iterdir() if found.name.startswith("e.")] == []


def test_statements_without_evidence_are_a_mistake(cli: Cli) -> None:
    error = cli.refused(2, "diagnose", "--include-statements", sample("bcc"))
    assert "--evidence" in str(error["message"])


def test_a_receipt_is_shown_without_being_judged(shared: Cli) -> None:
    import base64

    shared.ok("diagnose", "--evidence", "shown.json", sample("df"))
    value = json.loads((shared.base / "shown.json").read_text())
    raw = base64.b64decode(value["receipts"][0]["receipt"])
    (shared.base / "a.air").write_bytes(raw)
    shown = shared.ok("receipt", "show", "a.air", "-o", "json").json()
    assert shown["nonce"] == base64.b64decode(value["nonce"]).hex()
    assert "nothing was verified" in shared.ok("receipt", "show", "a.air").err
    whole = shared.refused(4, "receipt", "show", "shown.json")
    assert whole["hint"] == "enclavectl receipt extract 'shown.json' --to FOLDER writes its receipts to files"
    (shared.base / "cut.air").write_bytes(raw[:-1])
    assert shared.refused(4, "receipt", "show", "cut.air")["code"] == "receipt-cbor"
    (shared.base / "empty.air").write_bytes(b"")
    shared.refused(2, "receipt", "show", "empty.air")
