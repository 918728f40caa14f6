"""Each rule of the lint finds its wrong policy; the evaluator says what that policy lets through."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from enclavectl.kms.facts import LintFacts
from enclavectl.kms.findings import RULES
from enclavectl.kms.key_policy import KeyPolicy
from enclavectl.kms.lint import fix, is_clean, lint
from tests.kms.situations import (
    CONTEXT,
    FACTS,
    PAIRS,
    PARENT,
    RELEASE_A,
    RELEASE_B,
    surprises,
)

ROOT = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^\| (K\d\d) \| (\w+) \|", re.MULTILINE)
EACH = pytest.mark.parametrize("rule", PAIRS)


def rules(policy: KeyPolicy, facts: LintFacts | None = None) -> set[str]:
    return {one.rule for one in (lint(policy) if facts is None else lint(policy, facts))}


def test_the_page_has_every_rule_with_its_weight() -> None:
    rows = _ROW.findall((ROOT / "docs" / "kms.md").read_text())
    assert rows == [(rule, weight.value) for rule, (weight, _) in RULES.items()]
    assert list(RULES) == [f"K{number:02}" for number in range(1, 41)]


@EACH
def test_the_evaluator_decides_the_calls_of_a_wrong_policy_as_written(rule: str) -> None:
    assert surprises(PAIRS[rule].bad_policy) == set(PAIRS[rule].wrong)


@EACH
def test_the_fixed_policy_decides_every_call_right(rule: str) -> None:
    assert surprises(PAIRS[rule].fixed_policy) == set()


@EACH
def test_a_wrong_policy_is_found_by_its_rule(rule: str) -> None:
    assert rule in rules(PAIRS[rule].bad_policy)


@EACH
def test_the_fixed_policy_is_clean(rule: str) -> None:
    found = lint(PAIRS[rule].fixed_policy)
    assert is_clean(found), [(one.rule, one.reason) for one in found]


@EACH
def test_the_fixed_text_of_findings_makes_a_policy_that_decides_every_call_right(rule: str) -> None:
    releases = (RELEASE_A, RELEASE_B) if rule == "K07" else (RELEASE_A,)
    facts = LintFacts(releases=releases, admin=FACTS.admin, parents=(PARENT,), context=CONTEXT)
    policy = fix(PAIRS[rule].bad_policy, facts)
    assert is_clean(lint(policy, facts)), [(one.rule, one.reason) for one in lint(policy, facts)]
    assert surprises(policy) <= ({"admin-put", "admin-encrypt"} if rule == "K02" else set())
