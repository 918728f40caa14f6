"""``diagnose`` and ``send`` go on in a new session when a document's certificate ends, and keep both."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from enclavectl.attestation.policy_file import render_policy
from enclavectl.evidence import parse_evidence_file
from enclavectl.evidence.air import parse_receipt
from enclavectl.evidence.file import parse_receipt_line
from tests.cli.command import enclavectl
from tests.client.test_renewal import short_lived
from tests.in_process import gray, new_root, start_in_process

pytestmark = pytest.mark.slow


def test_each_session_s_evidence_is_kept_with_its_receipts(tmp_path: Path) -> None:
    root = new_root()
    names = [f"{number}.png" for number in range(3)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(gray(100 * number).data)
    (tmp_path / "root.pem").write_bytes(root.certificate_pem)
    attester = short_lived(root, timedelta(0))
    with start_in_process(tmp_path, root=root, attester=attester) as enclave:
        (tmp_path / "policy.yaml").write_text(render_policy(enclave.expectation.policy))
        place = ["--connect", str(enclave.address), "--policy", "policy.yaml", "--root", "root.pem"]
        done = enclavectl(
            *("diagnose", *names, *place, "--evidence", "e.json", "--output", "json"),
            environ={"ENCLAVECTL_DIAGNOSE_IN_FLIGHT": "1"},
            home=tmp_path,
        )
        assert done.status == 0, done.err
        sent = enclavectl("send", *names, *place, "--evidence", "sent.json", home=tmp_path)
    assert [result["session"] for result in done.json()["results"]] == [0, 1, 2]
    assert len(done.json()["later_evidence"]) == 2
    assert done.err.count("so a new session began") == 2
    for stem in ("e", "e-2", "e-3"):
        evidence = parse_evidence_file((tmp_path / f"{stem}.json").read_bytes())
        [line] = (tmp_path / f"{stem}.receipts.jsonl").read_bytes().splitlines()
        receipt = parse_receipt(parse_receipt_line(line).receipt)
        assert receipt.attestation_doc_hash == sha256(evidence.document).digest()
    assert sent.status == 0, sent.err
    kept = [parse_evidence_file((tmp_path / name).read_bytes()) for name in ("sent.json", "sent-4.json")]
    assert kept[0].document != kept[1].document
