"""The fixed text of findings: what a statement should have been.

A value that nobody can know from the text is a word in angle brackets, for a person to fill in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from enclavectl.kms import statements
from enclavectl.kms.actions import PREFIX, named_by
from enclavectl.kms.compile import placed
from enclavectl.kms.facts import LintFacts
from enclavectl.kms.findings import Finding
from enclavectl.kms.key_policy import Condition, Effect, KeyPolicy, Principals, Statement
from enclavectl.kms.operators import parse_operator
from enclavectl.kms.pins import (
    Guards,
    allows,
    effective_actions,
    guards_of,
    identities,
    pinned_context,
    register_tests,
)
from enclavectl.kms.releases import KeyRelease
from enclavectl.label import MODEL_PCR, REQUIRED_PCRS

_HEX_DIGITS = 96
# A wildcard that named more actions than this is replaced by nothing: its author meant everything.
_MAX_SPELLED = 12
_PARENT = "<ROLE-OF-THE-PARENT>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A key policy under the lint, with what all rules ask of it.

    ``admins`` are the roles that may administer the key: the fact, or those of the first PutKeyPolicy.
    ``sealing`` is the encryption context that the owner's Encrypt asks for.
    """

    policy: KeyPolicy
    facts: LintFacts
    guards: Guards
    admins: frozenset[str]
    sealing: Mapping[str, str]

    @classmethod
    def of(cls, policy: KeyPolicy, facts: LintFacts) -> Subject:
        """Look at a policy."""
        guards = guards_of(policy)
        admins: tuple[str, ...] = () if facts.admin is None else (facts.admin,)
        sealing: dict[str, str] = {}
        for statement in allows(policy):
            actions = effective_actions(statement, guards)
            if not admins and "PutKeyPolicy" in actions:
                admins = identities(statement)
            if "Encrypt" in actions:
                sealing |= pinned_context(statement)
        context = {name.lower(): value for name, value in facts.context.items()}
        return cls(
            policy=policy, facts=facts, guards=guards, admins=frozenset(admins), sealing=context or sealing
        )


def pinned_release(subject: Subject, statement: Statement) -> tuple[Statement, ...]:
    """Return the statement as it should be: one for each release, every register pinned."""
    facts = subject.facts
    parents = [one for one in identities(statement) if one not in subject.admins]
    known = facts.parents or tuple(parents) or (_PARENT,)
    context = dict(subject.sealing) or pinned_context(statement) or {"<NAME>": "<VALUE>"}
    if facts.releases:
        return tuple(statements.release_statement(one, known, context) for one in facts.releases)
    if facts.built:
        built = KeyRelease(name="lock", pcrs=facts.built)
        return (statements.release_statement(built, known, context),)
    tuples = _own_tuples(statement)
    return tuple(
        Statement(
            sid=_numbered(statement.sid or "Release", number, len(tuples)),
            effect=Effect.ALLOW,
            principals=Principals(accounts=known),
            actions=(f"{PREFIX}Decrypt",),
            conditions=(
                *_register_texts(values),
                *statements.context_conditions(context),
                *(one for one in statement.conditions if one.key.lower() == "aws:currenttime"),
            ),
        )
        for number, values in enumerate(tuples, start=1)
    )


def without_actions(statement: Statement, actions: Iterable[str]) -> tuple[Statement, ...]:
    """Return the statement without these actions (without ``kms:``), or nothing if none is left."""
    removed = set(actions)
    kept: list[str] = []
    for pattern in statement.actions or ():
        named = named_by((pattern,))
        if not named & removed:
            kept.append(pattern)
        elif len(named) <= _MAX_SPELLED:
            kept += [f"{PREFIX}{one}" for one in sorted(named - removed)]
    if not kept or statement.not_actions:
        return ()
    return (replace(statement, actions=tuple(kept)),)


def without_attestation(statement: Statement) -> Statement:
    """Return the statement without its conditions on attestation keys."""
    tested = {id(one.condition) for one in register_tests(statement)}
    kept = tuple(one for one in statement.conditions if id(one) not in tested)
    return replace(statement, conditions=kept)


def repaired_deny(statement: Statement) -> tuple[Statement, ...]:
    """Return a Deny with the registers' values as KMS presents them, without what cannot be repaired."""
    tested = {id(one.condition) for one in register_tests(statement) if not one.operator.is_null}
    conditions: list[Condition] = []
    for one in statement.conditions:
        if id(one) not in tested:
            conditions.append(one)
            continue
        is_equal = not parse_operator(one.operator).negated
        values = tuple(value for text in one.values if (value := repaired(text, zero=is_equal)) is not None)
        conditions += [replace(one, values=values)] if values else []
    return (replace(statement, conditions=tuple(conditions)),) if conditions else ()


def with_guard(policy: KeyPolicy, listed: Sequence[Statement]) -> tuple[Statement, ...]:
    """Add the guard against detours, unless the policy has one of that name."""
    sids = {one.sid for one in policy.statements}
    added = statements.never()
    return (*listed, *(() if added.sid in sids else (added,)))


def apply_fix(policy: KeyPolicy, finding: Finding) -> KeyPolicy:
    """Return the policy with a finding's fixed text in place of the statement. No text is no change."""
    if finding.fixed is None:
        return policy
    listed: list[Statement] = []
    for one in policy.statements:
        is_meant = finding.statement is not None and one.place == finding.statement.place
        listed += finding.fixed if is_meant else (one,)
    if finding.statement is None:
        listed += finding.fixed
    return replace(placed(_unique(listed)), version=policy.version, identifier=policy.identifier)


def _unique(listed: list[Statement]) -> list[Statement]:
    """Leave out statements that stand here twice but for their place: two fixes may write the same one."""
    found: list[Statement] = []
    for one in listed:
        if all(replace(one, place=0) != replace(other, place=0) for other in found):
            found.append(one)
    return found


def _own_tuples(statement: Statement) -> list[dict[int, str]]:
    """Return the registers that the statement means: of two values each, the first ones belong together."""
    columns: dict[int, list[str]] = {}
    for test in register_tests(statement):
        if test.index is not None and not test.operator.is_null:
            good = [value for one in test.condition.values if (value := repaired(one)) is not None]
            columns.setdefault(test.index, []).extend(good)
    count = max((len(values) for index, values in columns.items() if index in REQUIRED_PCRS), default=1) or 1
    indexes = sorted({*REQUIRED_PCRS, MODEL_PCR, *(index for index, values in columns.items() if values)})
    return [
        {index: _at(columns.get(index, []), number) or f"<PCR{index}>" for index in indexes}
        for number in range(count)
    ]


def _at(values: Sequence[str], number: int) -> str | None:
    if len(values) == 1:
        return values[0]
    return values[number] if number < len(values) else None


def repaired(value: str, *, zero: bool = False) -> str | None:
    """Return the register that a value means, in 96 lower-case digits; zeros only if ``zero``."""
    digits = value.lower().removeprefix("0x")
    if digits and not set(digits) - {"0"}:  # 0x and any number of zeros mean a debug enclave's register
        return statements.ZERO if zero else None
    is_register = len(digits) == _HEX_DIGITS and not set(digits) - set("0123456789abcdef")
    return digits if is_register else None


def _register_texts(values: Mapping[int, str]) -> tuple[Condition, ...]:
    return tuple(
        Condition(
            operator="StringEqualsIgnoreCase", key=f"kms:RecipientAttestation:PCR{index}", values=(value,)
        )
        for index, value in values.items()
    )


def _numbered(sid: str, number: int, count: int) -> str:
    return sid if count == 1 else f"{sid}{number}"
