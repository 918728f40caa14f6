"""Three parties and one sealed model on the local backend: and nobody but its owner has it in plain."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from enclavectl.models.find import PACKAGED_DIR
from tests.e2e.cli import wait_until
from tests.e2e.parties import Parties, descendants, three_parties


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    with three_parties(tmp_path, operator={}, root=None) as made:
        yield made


def test_the_owner_releases_the_operator_runs_the_patient_diagnoses(parties: Parties) -> None:
    owner, operator = parties.owner, parties.operator
    # The owner seals, and learns the runtime's registers from a trial on the owner's own machine.
    sealed = owner.ok("model", "seal", "demo-lesion", "--to", "demo.sealed", "--output", "json").json()
    owner.ok("run", "--name", "trial", "--model", "demo.sealed", "--release", "file:demo.key")
    owner.ok("describe", "trial", "--policy-file", parties.policy)
    owner.ok("terminate", "trial")
    shutil.copy(owner.base / "demo.sealed", operator.base)
    # Only to have a development root before the owner's service starts; nitro has AWS's.
    operator.ok("run", "--name", "first")
    operator.ok("terminate", "first")
    secrets = parties.secrets()
    run = ("run", "--foreground", "--name", "skin", "--model", "demo.sealed")
    with parties.release_service() as (service, release):
        bringing = operator.start(*run, *release)
        wait_until(lambda: is_serving(parties), "it serves")
        # The controls: what is searched for is found where it is.
        assert secrets.in_memory(service.pid) == {"key"}
        assert secrets.in_memory(os.getpid()) == {"weights", "key"}
    assert [(line["result"], line["lease_s"]) for line in parties.releases()] == [("allowed", 3600)]
    assert parties.releases()[0]["pcrs"]["16"] == sealed["pcr16"]
    with parties.gateway() as (gateway, through):
        parties.diagnose(through, sealed["pcr16"])
        supervisor = operator.ok("list", "--output", "json").json()["enclaves"][0]["pid"]
        for pid in (bringing.pid, supervisor, gateway):
            assert secrets.in_memory(pid) == set()
        assert "weights" in set().union(*map(secrets.in_memory, descendants(supervisor)))
    bringing.send_signal(signal.SIGTERM)
    out, err = bringing.communicate(timeout=60)
    assert bringing.returncode == 0, err
    assert "model pinned" in out
    assert secrets.in_files(operator.base) == {}
    assert secrets.in_files(parties.patient.base) == {}
    assert secrets.in_files(owner.base) == {"demo.key": {"key"}}
    assert secrets.in_files(PACKAGED_DIR) == {"model.tflite": {"weights"}}


def is_serving(parties: Parties) -> bool:
    """As the operator's ``list`` says it."""
    found = parties.operator.ok("list", "--output", "json").json()["enclaves"]
    return [one["weights"]["state"] for one in found] == ["SERVING"]
