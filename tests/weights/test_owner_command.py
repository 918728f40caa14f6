"""The owner's program beside what changes while it waits, and beside strangers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from enclave_payload.release import State
from enclavectl.attestation import Revocation, render_policy
from enclavectl.attestation.policy_edit import revoke
from enclavectl.deploy.release_unit import TASKS
from enclavectl.net.address import UnixAddress
from enclavectl.net.transport import connect, open_stream
from enclavectl.weights.key_file import write_key
from enclavectl.weights.owner_service import MAX_THREADS
from enclavectl.weights.release_port import ReleaseConnection, relay
from enclavectl.weights.sealed_file import SealedFile
from tests.in_process import new_root
from tests.weights.port import Port, expectation, release_port
from tests.weights.sealing import sealed_in

ROOT = new_root()
POLICY = expectation(ROOT).policy
PATIENCE_S = 60.0


@contextmanager
def waiting_owner(folder: Path) -> Iterator[SealedFile]:
    """``model release --listen unix:owner`` in ``folder``, with policy.yaml and log.jsonl."""
    sealed, key = sealed_in(folder)
    write_key(folder / "m.key", key)
    (folder / "policy.yaml").write_text(render_policy(POLICY))
    (folder / "root.pem").write_bytes(ROOT.certificate_pem)
    argv = [sys.executable, "-m", "enclavectl", "model", "release", "m.key", "--policy", "policy.yaml"]
    argv += ["--root", "root.pem", "--log", "log.jsonl", "--listen", "unix:owner"]
    with (folder / "said").open("w") as said, subprocess.Popen(argv, cwd=folder, stderr=said) as program:
        try:
            # It listens before it says so.
            while "waiting for enclaves" not in (folder / "said").read_text():
                assert program.poll() is None, (folder / "said").read_text()
                time.sleep(0.02)
            yield sealed
        finally:
            program.terminate()


def state_after_release(port: Port, sealed: SealedFile, folder: Path) -> State:
    """Offer the model and connect the enclave with its owner, as the operator's ``run`` does."""
    with ReleaseConnection(port.address, PATIENCE_S) as connection:
        connection.offer(sealed)
    owner = open_stream(UnixAddress(folder / "owner"), PATIENCE_S)
    enclave = open_stream(port.address, PATIENCE_S)
    with suppress(OSError):
        relay(owner, enclave, PATIENCE_S / 4)
    owner.close()
    enclave.close()
    with ReleaseConnection(port.address, PATIENCE_S) as connection:
        return connection.status().state


def test_a_revocation_counts_for_the_program_that_already_waits(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    with waiting_owner(tmp_path) as sealed, release_port(tmp_path, ROOT) as port:
        why = Revocation(date=datetime(2026, 1, 1, tzinfo=UTC), reason="leak", label=POLICY.releases[0].label)
        file.write_text(revoke(file.read_text(), why, source="policy.yaml").text)
        assert state_after_release(port, sealed, tmp_path) is State.MEASURED
    (line,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert line["error"].startswith("release-revoked")


def test_strangers_who_say_nothing_keep_nobody_waiting(tmp_path: Path) -> None:
    crowd: list[socket.socket] = []
    with waiting_owner(tmp_path) as sealed, release_port(tmp_path, ROOT) as port:
        try:
            crowd += [connect(UnixAddress(tmp_path / "owner"), PATIENCE_S) for _ in range(40)]
            assert state_after_release(port, sealed, tmp_path) is State.KEYED
        finally:
            for one in crowd:
                one.close()


def test_the_units_tasks_are_enough_for_all_threads() -> None:
    """Where a thread cannot be started, the service would end."""
    assert MAX_THREADS < TASKS
