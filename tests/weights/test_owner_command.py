"""The owner's program beside what changes while it waits."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from enclave_payload.release import State
from enclavectl.attestation import Revocation, render_policy
from enclavectl.attestation.policy_edit import revoke
from enclavectl.net.address import UnixAddress
from enclavectl.net.transport import open_stream
from enclavectl.weights.key_file import write_key
from enclavectl.weights.release_port import ReleaseConnection, relay
from tests.in_process import new_root
from tests.weights.port import expectation, release_port
from tests.weights.sealing import sealed_in

ROOT = new_root()
PATIENCE_S = 60.0


def test_a_revocation_counts_for_the_program_that_already_waits(tmp_path: Path) -> None:
    sealed, key = sealed_in(tmp_path)
    write_key(tmp_path / "m.key", key)
    policy, file = expectation(ROOT).policy, tmp_path / "policy.yaml"
    file.write_text(render_policy(policy))
    (tmp_path / "root.pem").write_bytes(ROOT.certificate_pem)
    argv = [sys.executable, "-m", "enclavectl", "model", "release", "m.key", "--policy", "policy.yaml"]
    argv += ["--root", "root.pem", "--log", "log.jsonl", "--listen", "unix:owner"]
    with (
        release_port(tmp_path, ROOT) as port,
        subprocess.Popen(argv, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as program,
    ):
        try:
            assert program.stderr is not None
            assert "waiting for enclaves" in program.stderr.readline()
            why = Revocation(
                date=datetime(2026, 1, 1, tzinfo=UTC), reason="leak", label=policy.releases[0].label
            )
            file.write_text(revoke(file.read_text(), why, source="policy.yaml").text)
            with ReleaseConnection(port.address, PATIENCE_S) as connection:
                connection.offer(sealed)
            owner = open_stream(UnixAddress(tmp_path / "owner"), PATIENCE_S)
            enclave = open_stream(port.address, PATIENCE_S)
            relay(owner, enclave, PATIENCE_S)
            owner.close()
            enclave.close()
            with ReleaseConnection(port.address, PATIENCE_S) as connection:
                assert connection.status().state is State.MEASURED
        finally:
            program.terminate()
    (line,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert line["error"].startswith("release-revoked")
