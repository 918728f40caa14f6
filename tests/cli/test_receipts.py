"""``enclavectl verify`` of receipts beside their session's evidence, and ``receipt extract``."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from enclavectl.evidence import KeptReceipt, parse_receipt
from enclavectl.evidence.file import MAX_EVIDENCE_FILE_BYTES, MAX_RECEIPT_BYTES, receipt_line
from tests.cli.command import COMMAND, enclavectl
from tests.cli.desk import FORGE, Desk, receipt_evidence
from tests.evidence.test_receipts_in_verification import PICTURE


def test_the_receipts_of_a_batch_may_take_more_than_an_evidence_file(desk: Desk) -> None:
    kept = receipt_evidence()
    (desk.folder / "batch.json").write_bytes(replace(kept, receipts=()).to_bytes())
    (desk.folder / "batch-root.pem").write_bytes(FORGE.development_root.certificate_pem)
    [receipt] = kept.receipts
    line = receipt_line(receipt, 0)
    (desk.folder / "batch.receipts.jsonl").write_bytes(line * (MAX_EVIDENCE_FILE_BYTES // len(line) + 1))
    files = ("batch.receipts.jsonl", "--document", "batch.json", "--root", "batch-root.pem")
    done = desk.verify(*files, "--policy", "policy.yaml", "--at", "document", "-o", "json")
    # All of it was read: the first receipt is good, and the second is the first one again.
    assert (done.status, done.json()["error"]["code"]) == (4, "receipt-repeated")


def test_the_parts_of_evidence_are_files_for_other_tools(desk: Desk) -> None:
    kept = receipt_evidence()
    (desk.folder / "answered.json").write_bytes(kept.to_bytes())
    done = enclavectl("receipt", "extract", "answered.json", "--to", "parts", "-o", "json", home=desk.folder)
    assert done.status == 0, done.err
    written = {path.name: sha256(path.read_bytes()).hexdigest() for path in (desk.folder / "parts").iterdir()}
    assert {Path(one["file"]).name: one["sha256"] for one in done.json()["files"]} == written
    [receipt] = kept.receipts
    assert written == {
        "document.bin": sha256(kept.document).hexdigest(),
        "key-config.bin": sha256(kept.key_config).hexdigest(),
        "answer-1.air": sha256(receipt.receipt).hexdigest(),
        "answer-1.request.cbor": parse_receipt(receipt.receipt).request_hash.hex(),
        "answer-1.outcome.cbor": parse_receipt(receipt.receipt).response_hash.hex(),
    }
    again = enclavectl("receipt", "extract", "answered.json", "--to", "parts", home=desk.folder)
    assert (again.status, "never written over" in again.err) == (2, True)
    root = desk.folder / "parts.pem"
    root.write_bytes(FORGE.development_root.certificate_pem)
    judge = ("--document", "answered.json", "--policy", "policy.yaml", "--root", root, "--at", "document")
    assert desk.verify("parts/answer-1.air", *judge).status == 0
    bare = enclavectl("receipt", "extract", "document.bin", "--to", "none", home=desk.folder)
    assert (bare.status, "found a bare document" in bare.err) == (2, True)


def test_parts_that_the_disk_does_not_take_leave_nothing_behind(desk: Desk) -> None:
    lines = [receipt_line(KeptReceipt(receipt=bytes(size)), size) for size in (10, 60_000)]
    (desk.folder / "long.receipts.jsonl").write_bytes(b"".join(lines))
    # As on a full disk: the second file is too long for this process.
    limited = ["sh", "-c", 'ulimit -f 4; exec "$@"', "sh", str(COMMAND)]
    done = subprocess.run(
        [*limited, "receipt", "extract", "long.receipts.jsonl", "--to", "parts-of-many"],
        cwd=desk.folder,
        # Bytecode would be cut short as well, and stay so for later processes.
        env={"PATH": "/usr/bin:/bin", "HOME": str(desk.folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "parts-of-many: cannot write" in done.stderr) == (3, True), done.stderr
    assert list((desk.folder / "parts-of-many").iterdir()) == []


def test_a_batch_s_receipts_are_judged_with_the_session_s_evidence(desk: Desk) -> None:
    kept = receipt_evidence()
    (desk.folder / "batch.json").write_bytes(replace(kept, receipts=()).to_bytes())
    (desk.folder / "batch.receipts.jsonl").write_bytes(receipt_line(kept.receipts[0], 0))
    (desk.folder / "batch.pem").write_bytes(FORGE.development_root.certificate_pem)
    judge = ("--document", "batch.json", "--policy", "policy.yaml", "--root", "batch.pem", "--at", "document")
    done = desk.verify("batch.receipts.jsonl", *judge)
    assert (done.status, done.err) == (0, "")
    assert "a signed receipt of brightness; 1 with the answer" in done.out
    assert ".receipts.jsonl" in enclavectl("verify", "--help", home=desk.folder).out


def test_a_receipt_is_judged_with_the_statements_that_the_session_s_evidence_holds(desk: Desk) -> None:
    kept = receipt_evidence()
    [receipt] = kept.receipts
    (desk.folder / "told.json").write_bytes(kept.to_bytes())
    bare = KeptReceipt(receipt=receipt.receipt)
    (desk.folder / "untold.json").write_bytes(replace(kept, receipts=(bare,)).to_bytes())
    (desk.folder / "told.air").write_bytes(receipt.receipt)
    (desk.folder / "told.jsonl").write_bytes(receipt_line(bare, 0))
    (desk.folder / "told.pem").write_bytes(FORGE.development_root.certificate_pem)
    (desk.folder / "picture.png").write_bytes(PICTURE)
    (desk.folder / "other.png").write_bytes(PICTURE + b"!")
    options = ("--policy", "policy.yaml", "--root", "told.pem", "--at", "document", "-o", "json")
    for name in ("told.air", "told.jsonl"):
        done = desk.verify(name, "--document", "told.json", *options, "--picture", "picture.png")
        assert (done.status, len(done.json()["answers"])) == (0, 1), done.err
    other = desk.verify("told.air", "--document", "told.json", *options, "--picture", "other.png")
    assert (other.status, other.json()["error"]["code"]) == (4, "picture-mismatch")
    silent = desk.verify("told.air", "--document", "untold.json", *options, "--picture", "picture.png")
    assert (silent.status, silent.json()["error"]["code"]) == (4, "statement-missing")


def test_only_a_file_with_receipts_in_it_is_said_to_be_taken_apart(desk: Desk) -> None:
    """Also one that is longer than any receipt; and no other JSON, which ``receipt extract`` would refuse."""
    kept = receipt_evidence()
    line = receipt_line(kept.receipts[0], 0)
    evidence = kept.to_bytes()
    files = {
        "short.jsonl": line,
        "long.jsonl": line * (MAX_RECEIPT_BYTES // len(line) + 1),
        "shown.json": evidence,
        "shown16.json": evidence.decode().encode("utf-16"),
    }
    others = {
        "empty.json": b"{}",
        "vectors.json": b'{"vectors": [{"receipt": "d284"}]}',
        "long.bin": bytes(MAX_RECEIPT_BYTES + 1),
        "cut.air": kept.receipts[0].receipt[:-1],
    }
    for name, data in {**files, **others}.items():
        (desk.folder / name).write_bytes(data)
        done = enclavectl("receipt", "show", name, "-o", "json", home=desk.folder)
        assert done.status == 4, (name, done.err)
        hint = str(done.error()["hint"])
        assert ("receipt extract" in hint) is (name in files), name
        if name in files:
            assert hint.startswith(f"enclavectl receipt extract '{name}' --to FOLDER")
            extracted = enclavectl("receipt", "extract", name, "--to", f"parts of {name}", home=desk.folder)
            assert extracted.status == 0, extracted.err
    long = enclavectl("receipt", "show", "long.bin", home=desk.folder)
    assert "expected a receipt of at most 65536 bytes, found more" in long.err
