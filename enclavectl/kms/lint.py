"""The lint: what is wrong with a key policy that should release a key to enclaves alone.

Rules look at what the whole policy lets through, not at how it is written: a Deny can do what an Allow
leaves out, and the other way round. The evaluator is the judge of the rules in the tests.
"""

from __future__ import annotations

from enclavectl.kms.facts import LintFacts
from enclavectl.kms.findings import Finding, Severity
from enclavectl.kms.fixes import Subject, apply_fix
from enclavectl.kms.key_policy import KeyPolicy
from enclavectl.kms.rules_access import check_access
from enclavectl.kms.rules_facts import check_facts
from enclavectl.kms.rules_registers import check_registers
from enclavectl.kms.rules_release import check_releases

_NO_FACTS = LintFacts()
# More than the statements of a policy of 32 KiB ever need; without anything new to fix it ends sooner.
_MOST_FIXES = 500


def lint(policy: KeyPolicy, facts: LintFacts = _NO_FACTS) -> tuple[Finding, ...]:
    """Return what is wrong with a key policy, worst first, then in the order of the statements."""
    subject = Subject.of(policy, facts)
    found = [
        *check_releases(subject),
        *check_registers(subject),
        *check_access(subject),
        *check_facts(subject),
    ]
    weights = list(Severity)
    places = {one.place: one for one in policy.statements}

    def order(finding: Finding) -> tuple[int, int, str]:
        place = finding.statement.place if finding.statement is not None else len(places) + 1
        return weights.index(finding.severity), place, finding.rule

    return tuple(sorted(_unique(found), key=order))


def fix(policy: KeyPolicy, facts: LintFacts = _NO_FACTS) -> KeyPolicy:
    """Return the policy with the fixed text of every finding, the worst first.

    What is for a person to fill in stays a word in angle brackets, and is a finding (K05) itself.
    """
    for _ in range(_MOST_FIXES):
        found = (one for one in lint(policy, facts) if one.severity is not Severity.INFO)
        fixed = next((new for one in found if (new := apply_fix(policy, one)) != policy), None)
        if fixed is None:
            break
        policy = fixed
    return policy


def is_clean(findings: tuple[Finding, ...]) -> bool:
    """Return whether there are neither errors nor warnings."""
    return all(one.severity is Severity.INFO for one in findings)


def _unique(found: list[Finding]) -> list[Finding]:
    """Keep the first finding of each rule and statement; its reason names the first of several keys."""
    first: dict[tuple[str, int, str], Finding] = {}
    for one in found:
        place = 0 if one.statement is None else one.statement.place
        first.setdefault((one.rule, place, one.reason if place == 0 else ""), one)
    return list(first.values())
