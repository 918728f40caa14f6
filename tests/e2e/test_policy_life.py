"""The life of a release, from its announcement to its revocation, before a running enclave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, sample


def day(days: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"


@pytest.fixture
def policy(shared: Cli, tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    shared.ok("describe", "shared", "--policy-file", path)
    return path


def test_the_end_of_a_release_is_announced_and_then_kept(shared: Cli, policy: Path) -> None:
    diagnose = ("diagnose", "-e", "shared", sample("nv"), "--policy", policy)
    first = shared.ok(*diagnose, "-o", "json")
    assert first.json()["evidence"]["release_expires"] is None
    assert "expires" not in first.err
    shared.ok("policy", "retire", policy, "shared as started", "--expires", day(30))
    assert "expires" not in shared.ok(*diagnose).err
    end = day(5)
    shared.ok("policy", "retire", policy, "shared as started", "--expires", end)
    ran = shared.ok(*diagnose, "-o", "json")
    assert ran.json()["evidence"]["release_expires"] == f"{end}T00:00:00+00:00"
    assert "release shared as started expires in 4 days" in ran.err
    sent = shared.ok("send", "-e", "shared", sample("nv"), "--policy", policy)
    assert "release shared as started expires in 4 days" in sent.err
    shared.ok("policy", "retire", policy, "shared as started")
    assert shared.refused(4, *diagnose)["code"] == "release-expired"


def test_a_release_of_tomorrow_is_refused_today(shared: Cli, policy: Path) -> None:
    life = f"    not_before: {day(1)}\n    pcrs:"
    policy.write_text(policy.read_text().replace("    pcrs:", life))
    error = shared.refused(4, "diagnose", "-e", "shared", sample("nv"), "--policy", policy)
    assert error["code"] == "release-not-yet-valid"


def test_an_answer_from_a_release_that_was_revoked_in_the_meantime_is_not_shown(
    shared: Cli, policy: Path
) -> None:
    shared.ok("send", "-e", "shared", sample("nv"), "--policy", policy)
    shared.ok("policy", "revoke", policy, "shared as started", "--reason", "a leak")
    diagnose = ("diagnose", "-e", "shared", sample("nv"), "--policy", policy)
    error = shared.refused(4, *diagnose)
    assert error["code"] == "release-revoked"
    assert "a leak" in str(error["message"])
    ran = shared.ok("listen", "--timeout", "2.5", "--policy", policy)
    assert ran.out == ""
    assert "(release-revoked)" in ran.err
