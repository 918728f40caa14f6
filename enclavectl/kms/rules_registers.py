"""Rules about conditions on registers: which are asked for, and whether the asking holds (K04-K13, K22, K26).

Each looks at one condition, wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from enclavectl.kms.findings import Finding
from enclavectl.kms.fixes import Subject, pinned_release, repaired_deny
from enclavectl.kms.key_policy import Condition, Statement
from enclavectl.kms.operators import parse_operator
from enclavectl.kms.pins import RegisterTest, register_tests
from enclavectl.kms.statements import ZERO, guard

_REGISTER = re.compile(r"[0-9a-fA-F]{96}")
# An instance or a role of the host may be one of several; that mixes no releases.
_MAY_BE_SEVERAL = (3, 4)
_PATTERNS = frozenset({"StringLike", "ArnLike", "ArnEquals"})
_PIN = "pin PCR0, PCR1, PCR2 and PCR16 with StringEqualsIgnoreCase, in one statement for each release"


def check_registers(subject: Subject) -> Iterator[Finding]:
    """Check each condition on an attestation key."""
    for statement in subject.policy.statements:
        if not statement.has_effect:
            continue
        for test in register_tests(statement):
            yield from _check_key(subject, statement, test)
            if statement.is_allow:
                yield from _check_operator(subject, statement, test)
            yield from _check_values(subject, statement, test)
        yield from _check_joined_deny(statement)


def _check_key(subject: Subject, statement: Statement, test: RegisterTest) -> Iterator[Finding]:
    if test.index is not None:
        return
    key = test.condition.key
    what = (
        "is a register of an EC2 instance with NitroTPM; an enclave's document never has it"
        if "nitrotpm" in key.lower()
        else "is no condition key of KMS: an Allow never matches, and Null is always true"
    )
    fixed = pinned_release(subject, statement) if statement.is_allow else (guard(),)
    yield Finding(rule="K12", statement=statement, reason=f"{key} {what}", advice=_PIN, fixed=fixed)


def _check_operator(subject: Subject, statement: Statement, test: RegisterTest) -> Iterator[Finding]:
    operator, key = test.operator, test.condition.key
    if operator.if_exists:
        yield _release("K09", subject, statement, f"{key}: without a document the condition is true")
    if operator.for_all:
        yield _release("K10", subject, statement, f"{key}: without a document the condition is true")
    is_wild = any(set(value) & set("*?") for value in test.condition.values)
    if operator.base in _PATTERNS and not operator.negated and is_wild:
        yield _release("K11", subject, statement, f"{key}: a register has no prefix that means anything")
    if operator.negated:
        reason = f"{key}: true of every other enclave" + (
            "" if operator.for_any else ", and without a document"
        )
        yield _release("K13", subject, statement, reason)


def _check_values(subject: Subject, statement: Statement, test: RegisterTest) -> Iterator[Finding]:
    """Check values: zeros may stand in a Deny that strikes them, and nowhere else."""
    operator, condition = test.operator, test.condition
    if operator.is_null or test.index is None:
        return
    strikes_equal = not statement.is_allow and not operator.negated
    if ZERO in condition.values and not strikes_equal:
        reason = f"{condition.key}: an enclave in debug mode has zeros there; the parent reads its memory"
        yield _release("K04", subject, statement, reason)
    like = operator.base in _PATTERNS
    wrong = [
        value
        for value in condition.values
        if not _REGISTER.fullmatch(value) and not (like and set(value) & set("*?"))
    ]
    if wrong:
        reason = f"{condition.key}: {wrong[0]:.100} never equals what KMS presents{_form_of(wrong[0])}"
        yield _release("K05", subject, statement, reason)
    knows_case = operator.base != "StringEqualsIgnoreCase"
    if knows_case and any(_REGISTER.fullmatch(one) and one != one.lower() for one in condition.values):
        reason = f"{condition.key}: KMS presents lower-case digits, and {condition.operator} knows case"
        yield _release("K22", subject, statement, reason)
    several = len({value.lower() for value in condition.values}) > 1
    if several and statement.is_allow and test.pins and test.index not in _MAY_BE_SEVERAL:
        reason = (
            f"{condition.key} has {len(condition.values)} values: each passes with each value of the others"
        )
        yield _release("K07", subject, statement, reason)


def _form_of(value: str) -> str:
    if value.lower().startswith("0x"):
        return " (0x does not belong there)"
    return f" ({len(value)} characters; a register has 96 digits)" if len(value) != 96 else ""


def _check_joined_deny(statement: Statement) -> Iterator[Finding]:
    """Check that a Deny for other values has one register: the keys of a Condition are joined by AND."""
    negated = [test for test in register_tests(statement) if test.operator.negated]
    if statement.is_allow or len(negated) < 2:
        return
    fixed = tuple(
        Statement(
            sid=f"{statement.sid or 'Guard'}{test.condition.key.rpartition(':')[2]}",
            effect=statement.effect,
            principals=statement.principals,
            actions=statement.actions,
            not_actions=statement.not_actions,
            resources=statement.resources,
            conditions=(_plain(test.condition),),
        )
        for test in negated
    )
    keys = ", ".join(test.condition.key.rpartition(":")[2] for test in negated)
    yield Finding(
        rule="K26",
        statement=statement,
        reason=f"{statement.name} strikes only if {keys} differ all at once",
        advice="write one Deny for each register, or pin the registers in the Allow",
        fixed=fixed,
    )


def _plain(condition: Condition) -> Condition:
    """Return the condition with an operator that strikes without a document as well."""
    base = parse_operator(condition.operator).base
    operator = "StringNotEquals" if base == "StringEquals" else "StringNotEqualsIgnoreCase"
    return Condition(operator=operator, key=condition.key, values=condition.values)


def _release(rule: str, subject: Subject, statement: Statement, reason: str) -> Finding:
    fixed = pinned_release(subject, statement) if statement.is_allow else repaired_deny(statement)
    return Finding(rule=rule, statement=statement, reason=reason, advice=_PIN, fixed=fixed)
