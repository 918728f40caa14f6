"""Every attack is refused, by its own rule; and a demonstration that proves nothing is noticed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from enclavectl.selftest.demonstrations import ATTACKS, Demonstration

THREAT_MODEL = Path(__file__).parents[2] / "docs" / "threat-model.md"


def test_every_attack_is_refused_by_its_own_rule() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "enclavectl", "selftest", "--tamper", "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["all_refused"] is True
    assert [one["name"] for one in value["attacks"]] == [one.name for one in ATTACKS]
    sent = {one["name"]: one["sealed_bytes"] for one in value["attacks"]}
    before_the_proof = [name for name, size in sent.items() if size == 0]
    assert {"changed-payload", "debug-mode", "foreign-root", "swapped-key"} <= set(before_the_proof)
    assert sent["flipped-answer"] > 0


@pytest.mark.parametrize("code", [None, "served", "enclave-lost"])
def test_an_attack_that_ends_in_another_way_was_not_refused(code: str | None) -> None:
    attack = replace(ATTACKS[0], codes=frozenset({"pcr-mismatch"}))
    assert not Demonstration(attack=attack, code=code, sealed_bytes=0, seconds=0.0).is_refused
    assert Demonstration(attack=attack, code="pcr-mismatch", sealed_bytes=0, seconds=0.0).is_refused


def test_the_threat_model_explains_each_attack() -> None:
    explained = re.findall(r"^\| `([a-z-]+)` \|", THREAT_MODEL.read_text(), re.MULTILINE)
    assert set(explained) >= {one.name for one in ATTACKS}
