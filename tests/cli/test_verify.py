"""``enclavectl verify`` as it is installed: files in, a verdict and its exit code out, without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from enclavectl.attestation import aws_nitro_root
from enclavectl.evidence import parse_evidence_file
from enclavectl.evidence.file import RootName
from tests.artifacts.test_lock import LOCK
from tests.attestation.test_archived import VECTORS, needs_vectors
from tests.cli.command import COMMAND, enclavectl
from tests.cli.desk import Desk
from tests.evidence.sessions import base64_of
from tests.forge import PCRS
from tests.results.pages import picture

NAMES = [
    *("evidence.json", "document.bin", "document.hex", "document.b64"),
    *("bom.json", "utf16.json", "utf16.hex", "0x.hex", "url.b64", "bare.b64"),
]
CHECKS = ["trust", "time", "release", "model", "receipt"]


@pytest.mark.parametrize("name", NAMES)
def test_evidence_is_verified_from_each_form(desk: Desk, name: str) -> None:
    done = desk.archived(name, "--policy", "policy.yaml")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"VERIFIED (trust simulated)  {name}"
    assert [line.split()[0] for line in lines[1:6]] == CHECKS
    assert "freshness was not checked" in lines[2]
    assert done.out.count("freshness was not checked") == 1
    value = desk.archived(name, "--policy", "policy.yaml", "--output", "json").json()
    assert (value["verified"], value["trust"], value["fresh"], value["error"]) == (
        True,
        "simulated",
        False,
        None,
    )
    assert all(check["ok"] is not False for check in value["checks"])


def test_it_says_whether_the_session_was_held_to_the_same_policy(desk: Desk) -> None:
    text = (desk.folder / "policy.yaml").read_text()
    (desk.folder / "other.yaml").write_text(f"# another\n{text}")
    for policy, told in (("policy.yaml", "held to this policy"), ("other.yaml", "held to another policy")):
        assert told in desk.archived("evidence.json", "--policy", policy).out


def test_nothing_says_zero_without_a_policy(desk: Desk) -> None:
    done = desk.archived("evidence.json", "--output", "json")
    assert done.status == 4
    value = done.json()
    assert (value["verified"], value["error"]["code"]) == (False, "no-policy")
    assert {"chain", "signature"} <= {check["id"] for check in value["checks"] if check["ok"]}
    assert "--no-policy" in done.err
    unjudged = desk.archived("evidence.json").out
    assert unjudged.startswith("NOT JUDGED  ")
    assert re.search(r"^  NONE +policy +not judged", unjudged, re.MULTILINE)
    assert "FAILED" not in unjudged
    assert desk.archived("evidence.json", "--no-policy").status == 0
    assert desk.archived("evidence.json", "--policy-from-evidence").status == 0
    assert desk.archived("document.bin", "--policy-from-evidence").status == 2


def test_the_time_is_now_unless_it_is_said(desk: Desk) -> None:
    done = desk.verify("evidence.json", "--policy", "policy.yaml", "--root", "root.pem", "--output", "json")
    assert (done.status, done.error()["code"]) == (4, "chain-expired")
    assert "the policy's max_age_s, three hours at most" in done.err
    assert "--at document" in done.err
    past = desk.verify("document.bin", "--no-policy", "--root", "root.pem", "--at", "1970-01-01T00:00:00Z")
    assert past.status == 4
    assert "chain-not-yet-valid" in past.out
    then = desk.verify("document.bin", "--no-policy", "--root", "root.pem", "--at", "2026-05-04T12:01:00Z")
    assert then.status == 0
    assert "at the time that you gave" in then.out
    day = desk.verify("document.bin", "--no-policy", "--root", "root.pem", "--at", "2026-05-04")
    assert day.status == 4
    assert "2026-05-04 00:00:00 UTC" in day.out
    for far in (day, past, desk.verify("document.bin", "--root", "root.pem", "--at", "2036-01-01T00:00:00Z")):
        assert "--at names the time of judgement" in far.err
        assert "clock" not in far.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["gone.json"], 2, "gone.json: no such evidence"),
        (["empty"], 2, "found nothing"),
        (["huge"], 4, "at most 1048576 bytes"),
        (["huge", "--document", "evidence.json"], 4, "at most 1048576 bytes"),
        (["half"], 4, "expected text in utf-16"),
        (["number.json"], 4, "has 5000 digits, more than 640"),
        (["receipt.air"], 2, "--document"),
        (["document.bin", "--at", "yesterday"], 2, "--at yesterday"),
        (["document.bin", "--at", "2026-05-04T12:00:00"], 2, "with its zone"),
        (["document.bin", "--nonce", "abc"], 2, "--nonce"),
        (["document.bin", "--policy", "policy.yaml", "--no-policy"], 2, "leave one out"),
        (["document.bin", "--lock", "policy.yaml"], 2, "expected a lock"),
        (["document.bin", "--lock", "odd.lock"], 2, "odd.lock: pcrs: expected PCR0, PCR1"),
        (
            ["document.bin", "--report", "policy.yaml"],
            2,
            "expected nothing there or a report, found another file",
        ),
        (["document.bin", "--report", "document.bin"], 2, "not an input, found document.bin"),
        (["document.bin", "--at", "2026-13-01"], 2, "a date"),
        (["document.bin", "--at", "2026-W19-1T12:01:00Z"], 2, "--at 2026-W19-1T12:01:00Z"),
        (["document.bin", "--at", "2026-05-04x12:01:00Z"], 2, "--at 2026-05-04x12:01:00Z"),
        (["document.bin", "--at", "0001-01-01T00:00:00+14:00"], 2, "--at 0001-01-01T00:00:00+14:00"),
        (["document.bin", "--at", "9999-12-31T23:59:59-14:00"], 2, "--at 9999-12-31T23:59:59-14:00"),
        (["document.bin", "--report", "root.pem", "--force"], 2, "not an input, found root.pem"),
        (["document.bin", "--document", "receipt.air"], 2, "--document receipt.air: expected a document"),
        (["document.bin", "--report", "gone/report.html"], 2, "--report"),
        (["text"], 4, "expected an attestation document in binary, hex or base64"),
        (["cut.json"], 4, "evidence file"),
        (["bare.json"], 4, "evidence file"),
        (["policy.yaml"], 4, "expected an attestation document in binary, hex or base64"),
        (["evidence.json", "--nonce", "00" * 32], 4, "nonce"),
    ],
)
def test_bad_input_gets_a_sentence_and_leaves_nothing(
    desk: Desk, arguments: list[str], status: int, message: str
) -> None:
    made = {
        "empty": b"",
        "huge": bytes(1 << 20) + b"1",
        "receipt.air": bytes.fromhex("d28446a2012703183d") + bytes(80),
        "text": b"not a document!",
        "cut.json": (desk.folder / "evidence.json").read_bytes()[:-200],
        "bare.json": b"{}",
        "half": b"\xff\xfe{",
        "number.json": b'{"schema": ' + b"1" * 5000 + b"}",
        "odd.lock": json.dumps({**LOCK.to_json(), "pcrs": {"PCR0": "zz" * 48}}).encode(),
    }
    for name, data in made.items():
        (desk.folder / name).write_bytes(data)
    before = sorted(desk.folder.iterdir())
    done = desk.archived(*arguments) if "--at" not in arguments else desk.verify(*arguments)
    assert done.status == status, (done.out, done.err)
    assert message in done.err
    assert "Traceback" not in done.err
    assert sorted(desk.folder.iterdir()) == before


def test_a_nonce_of_ones_own_is_held_to_the_document(desk: Desk) -> None:
    nonce = bytes(range(32)).hex()
    assert desk.archived("document.bin", "--policy", "policy.yaml", "--nonce", nonce).status == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("+" * 60, f"found '{'+' * 60}'"),
        ("+" * 61, f"found '{'+' * 60}...'"),
        (base64_of(bytes(range(32))), "found 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='"),
    ],
)
def test_a_nonce_that_is_not_in_hex_is_told_where_base64_comes_from(
    desk: Desk, text: str, shown: str
) -> None:
    done = desk.archived("document.bin", "--policy", "policy.yaml", "--nonce", text)
    assert (done.status, shown in done.err) == (2, True), done.err
    assert "in hex; an evidence file has it in base64" in done.err


@pytest.mark.parametrize("text", ["2026-05-04t12:01:00z", "2026-05-04 14:01:00+02:00"])
def test_a_time_of_judgement_is_read_as_policies_write_theirs(desk: Desk, text: str) -> None:
    done = desk.verify("document.bin", "--no-policy", "--root", "root.pem", "--at", text)
    assert (done.status, "2026-05-04 12:01:00 UTC" in done.out) == (0, True), done.err


def test_the_report_is_a_page_that_loads_nothing(desk: Desk) -> None:
    done = desk.archived("evidence.json", "--policy", "policy.yaml", "--report", "report.html")
    assert done.status == 0
    page = (desk.folder / "report.html").read_text()
    assert "VERIFIED (trust simulated)" in page
    assert "default-src 'none'" in page
    assert not re.search(r"<script|<link|src=|href=|@import|url\(", page)
    refused = desk.archived("evidence.json", "--report", "report.html")
    assert refused.status == 4
    assert "NOT JUDGED" in (desk.folder / "report.html").read_text()


def test_the_provers_policy_is_named_as_such_wherever_somebody_looks(desk: Desk) -> None:
    done = desk.archived("evidence.json", "--policy-from-evidence", "--report", "provers.html")
    assert done.status == 0
    assert done.out.startswith("VERIFIED (trust simulated, BY THE PROVER'S OWN POLICY)  evidence.json\n")
    assert "whoever made the evidence file chose what is enough" in done.err
    release = next(line for line in done.out.splitlines() if line.startswith("release "))
    assert "the policy is the prover's" in release
    assert "THE PROVER'S policy, SHA-256" in done.out
    assert "That this is the code that you mean" in done.out.partition("it does not prove")[2]
    page = (desk.folder / "provers.html").read_text()
    assert "BY THE PROVER&#x27;S OWN POLICY" in page or "BY THE PROVER'S OWN POLICY" in page
    value = desk.archived("evidence.json", "--policy-from-evidence", "-o", "json").json()
    assert value["policy"]["source"] == "evidence"
    own = desk.archived("evidence.json", "--policy", "policy.yaml", "-o", "json").json()
    assert own["policy"] == {"source": "file", "sha256": value["policy"]["sha256"]}
    assert desk.archived("evidence.json", "--no-policy", "-o", "json").json()["policy"] is None


def test_a_root_that_the_policy_does_not_accept_is_no_word_on_the_evidence(desk: Desk) -> None:
    done = desk.verify("document.bin", "--policy", "policy.yaml", "--at", "document")
    assert done.status == 4
    assert "policy: accepts simulated, but the root to judge by is of trust nitro" in done.err
    assert "--root names the root" in done.err


def test_a_policy_of_the_provers_that_is_none_refuses_the_evidence(desk: Desk) -> None:
    text = "schema: enclavectl.policy/2"
    evidence = parse_evidence_file((desk.folder / "evidence.json").read_bytes())
    broken = replace(evidence, policy=text, policy_sha256=sha256(text.encode()).hexdigest())
    (desk.folder / "provers.json").write_bytes(broken.to_bytes())
    done = desk.archived("provers.json", "--policy-from-evidence", "-o", "json")
    assert (done.status, done.json()["error"]["code"]) == (4, "evidence-policy"), done.err
    assert "the evidence file's policy:1: missing key accept" in done.err
    assert desk.archived("provers.json", "--policy", "policy.yaml").status == 0, "it was not looked at"


def test_a_report_over_a_picture_gets_a_hint_of_verify(desk: Desk) -> None:
    """The hint of ``diagnose`` is about its pictures, of which ``verify`` takes none after its report."""
    scan = desk.folder / "scan.png"
    scan.write_bytes(picture().data)
    done = desk.archived("evidence.json", "--report", "scan.png", "--force")
    assert (done.status, "found a picture" in done.err) == (2, True)
    assert "give the report a name of its own: --report audit.html" in done.err
    assert "PICTURE" not in done.err
    assert scan.read_bytes() == picture().data


def test_what_was_judged_is_shown_by_its_registers_and_hashes(desk: Desk) -> None:
    document = (desk.folder / "document.bin").read_bytes()
    text = (desk.folder / "policy.yaml").read_bytes()
    done = desk.archived("evidence.json", "--policy", "policy.yaml")
    judged = done.out.partition("\njudged\n")[2].partition("\nchecklist\n")[0]
    assert sha256(document).hexdigest() in judged
    assert f"your policy, SHA-256 {sha256(text).hexdigest()}" in judged
    for index in (0, 1, 2, 8):
        assert re.search(rf"^  PCR{index} +{PCRS[index].hex()} pinned$", judged, re.MULTILINE)
    assert "PCR3" not in judged


def test_a_lock_counts_under_the_root_that_was_named_and_the_trust_is_said(desk: Desk) -> None:
    pcrs = {f"PCR{index}": PCRS[index].hex() for index in (0, 1, 2)}
    (desk.folder / "enclavectl.lock.json").write_text(json.dumps({**LOCK.to_json(), "pcrs": pcrs}))
    done = desk.archived("evidence.json", "--lock", "enclavectl.lock.json")
    assert (done.status, done.out.partition("  ")[0]) == (0, "VERIFIED (trust simulated)")
    assert "a development key signed; it protects nothing" in done.out
    assert "by its word with the image of no lock" in done.out
    at_aws = desk.verify("evidence.json", "--at", "document", "--lock", "enclavectl.lock.json", "-o", "json")
    assert (at_aws.status, at_aws.json()["error"]["code"]) == (4, "evidence-root")
    bare = desk.verify("document.bin", "--at", "document", "--lock", "enclavectl.lock.json", "-o", "json")
    assert (bare.status, bare.json()["error"]["code"]) == (4, "chain-root")


def test_what_was_kept_without_its_root_is_judged_by_the_way_that_the_hint_names(desk: Desk) -> None:
    """``attest unix:PATH`` without --root keeps it so: the file names AWS, the document another."""
    evidence = parse_evidence_file((desk.folder / "evidence.json").read_bytes())
    aws = replace(evidence, root=RootName.of(aws_nitro_root()))
    (desk.folder / "aws.json").write_bytes(aws.to_bytes())
    refused = desk.archived("aws.json", "--policy", "policy.yaml", "-o", "json")
    assert (refused.status, refused.json()["error"]["code"]) == (4, "evidence-root")
    assert "receipt extract FILE --to PARTS" in refused.err
    assert "verify PARTS/document.bin with the same --root and --policy" in refused.err
    assert "Name the root" not in refused.err
    parts = enclavectl("receipt", "extract", "aws.json", "--to", "aws-parts", home=desk.folder)
    assert parts.status == 0, parts.err
    judged = desk.archived("aws-parts/document.bin", "--policy", "policy.yaml")
    assert (judged.status, judged.err) == (0, "")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_no_network_is_needed(desk: Desk) -> None:
    arguments = ["verify", "evidence.json", "--policy", "policy.yaml", "--root", "root.pem"]
    alone = ["unshare", "--net", "--map-root-user"]
    allowed = subprocess.run([*alone, "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip(f"this machine allows no network namespace: {allowed.stderr.decode().strip()}")
    done = subprocess.run(
        [*alone, str(COMMAND), *arguments, "--at", "document"],
        cwd=desk.folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(desk.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("VERIFIED")


@needs_vectors
def test_a_lock_is_enough_for_its_image_on_aws_hardware(tmp_path: Path) -> None:
    document = VECTORS / "marlinprotocol-nitroprover_2024-04-04_b8f47b3f.bin"
    waived = enclavectl("verify", document, "--no-policy", "--at", "document", "-o", "json", home=tmp_path)
    pcrs = {f"PCR{index}": waived.json()["pcrs"][str(index)] for index in (0, 1, 2)}
    for registers, status in ((pcrs, 0), ({**pcrs, "PCR2": "ab" * 48}, 4)):
        (tmp_path / "lock.json").write_text(json.dumps({**LOCK.to_json(), "pcrs": registers}))
        done = enclavectl("verify", document, "--lock", "lock.json", "--at", "document", home=tmp_path)
        assert done.status == status
        assert ("the image of lock.json, valid at" in done.out) is (status == 0)


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_judged(desk: Desk) -> None:
    """/proc takes no files: not even root may write there, and it looks like a folder that takes some."""
    arguments = ("evidence.json", "--report", "/proc/report.html", "--output", "json")
    for policy in ((), ("--policy", "policy.yaml")):
        done = desk.archived(*arguments, *policy)
        assert (done.status, done.json()["error"]["kind"]) == (2, "usage")
        assert "/proc: cannot create a file" in done.err


def test_policies_are_explained_by_an_evidence_file_as_well(desk: Desk) -> None:
    at = ("--at", "document", "--output", "json")
    explained = [
        enclavectl("policy", "explain", "policy.yaml", name, *at, home=desk.folder)
        for name in ("document.bin", "evidence.json", "utf16.json")
    ]
    assert [one.status for one in explained] == [0, 0, 0]
    answers = [{**one.json(), "document": None} for one in explained]
    assert answers[0] == answers[1] == answers[2]
    (desk.folder / "r.air").write_bytes(bytes.fromhex("d28446a2012703183d") + bytes(80))
    receipt = enclavectl("policy", "explain", "policy.yaml", "r.air", home=desk.folder)
    assert (receipt.status, "found receipts" in receipt.err) == (2, True)
