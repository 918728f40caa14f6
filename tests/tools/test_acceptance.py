"""``make nitro-acceptance``: its refusal where there is no device, and its report where there is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.nitro.host import FakeHost
from tests.nitro.hosts import make_host

PROJECT = Path(__file__).resolve().parents[2]


def accept(folder: Path, environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    report = str(folder / "report.json")
    return subprocess.run(
        [sys.executable, "-m", "tools.acceptance", "--report", report, *arguments],
        cwd=PROJECT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def accept_on(host: FakeHost, folder: Path) -> tuple[int, dict[str, Any], str]:
    """The status, the report, and the report's text, of a run on that host with a small enclave."""
    shutil.copy(host.eif, folder / "enclave.eif")
    lock = json.loads(host.lock.read_text())
    lock["eif"]["file"] = "enclave.eif"
    (folder / "enclavectl.lock.json").write_text(json.dumps(lock))
    size = ("--memory", "1024", "--cpus", "2", "--skip-contract")
    ran = accept(folder, host.environment, "--image", str(folder / "enclave.eif"), *size)
    text = (folder / "report.json").read_text()
    return ran.returncode, json.loads(text), text


@pytest.mark.skipif(Path("/dev/nitro_enclaves").exists(), reason="this is a Nitro host")
def test_without_a_device_it_refuses_and_writes_nothing(tmp_path: Path) -> None:
    ran = accept(tmp_path, {})
    assert ran.returncode == 3
    assert "expected a Nitro host, found /dev/nitro_enclaves that cannot be opened" in ran.stderr
    assert "docs/acceptance.md" in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.nitro_cli
@pytest.mark.slow
def test_on_a_host_it_walks_through_measures_and_tells_no_secret(tmp_path: Path) -> None:
    with make_host("real", tmp_path / "host") as host:
        status, report, text = accept_on(host, tmp_path)
        instance = host.place.settings.instance
        assert (status, report["failure"], report["passed"]) == (0, None, True)
        assert host.enclaves() == []
    # A root of the operator's: nobody takes this report for one of a Nitro host.
    assert report["verified_under"]["trust"] == "simulated"
    assert report["nitro_cli"] == "Nitro CLI 1.5.2"
    measured = report["measured"]
    assert 0 < measured["vsock_connection_ms"] < measured["warm_request_ms"] < 10_000
    assert all(step.get("holds", True) for step in report["steps"])
    commands = [step["command"].split()[1] for step in report["steps"] if "command" in step]
    assert commands[:2] == ["lock", "run"]
    assert {"send", "diagnose", "terminate", "policy"} <= set(commands)
    for secret in (instance, str(tmp_path), os.uname().nodename):
        assert secret not in text


@pytest.mark.nitro_cli
@pytest.mark.slow
def test_a_step_that_fails_is_in_the_report_and_leaves_no_enclave(tmp_path: Path) -> None:
    with make_host("real", tmp_path / "host", driver_error=264) as host:
        status, report, _ = accept_on(host, tmp_path)
        assert (status, report["passed"]) == (1, False)
        assert "NUMA" in report["failure"]
        assert host.enclaves() == []
