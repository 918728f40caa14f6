"""What a key policy really pins: for each Allow, the calls that it lets through and the registers they need.

A Deny may pin as well: `Deny ... StringNotEquals PCR0: A`, alone in its Condition and for everybody, lets
nothing through whose PCR0 is not A. Only what certainly holds is counted, so that the lint errs by warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from enclavectl.kms.actions import RELEASING, WITH_RECIPIENT
from enclavectl.kms.evaluate import CONTEXT
from enclavectl.kms.key_policy import EVERYBODY, Condition, KeyPolicy, Statement
from enclavectl.kms.operators import VARIABLE, Operator, parse_operator
from enclavectl.kms.principals import account_of_principal, is_identity

_REGISTER = re.compile(r"kms:recipientattestation:(?:pcr([0-9]|[12][0-9]|3[01])|(imagesha384))")
_ATTESTATION_LIKE = "kms:recipient"  # what can only be meant as an attestation key


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterTest:
    """A condition on an attestation key; ``index`` is None if the key does not exist for an enclave."""

    condition: Condition
    operator: Operator
    index: int | None

    @property
    def asks_presence(self) -> bool:
        """True if the condition is false without a document that has the register."""
        if self.index is None:
            return False
        operator = self.operator
        if operator.is_null:
            return all(value.lower() == "false" for value in self.condition.values)
        is_true_of_absent = operator.if_exists or operator.for_all
        return not is_true_of_absent and (operator.for_any or not operator.negated)

    @property
    def is_literal_like(self) -> bool:
        """True for a StringLike whose values have no wildcard: it compares like StringEquals."""
        operator = self.operator
        is_plain = not (operator.negated or operator.if_exists or operator.for_all)
        wild = any(set(value) & set("*?") for value in self.condition.values)
        return operator.base == "StringLike" and is_plain and not wild

    @property
    def pins(self) -> bool:
        """True if only a register with one of the values makes the condition true."""
        return self.index is not None and (self.operator.is_exact or self.is_literal_like)


def register_tests(statement: Statement) -> tuple[RegisterTest, ...]:
    """Return the statement's conditions on attestation keys, and on keys that look like one."""
    return tuple(
        RegisterTest(condition=one, operator=parse_operator(one.operator), index=register_index(one.key))
        for one in statement.conditions
        if one.key.lower().startswith(_ATTESTATION_LIKE)
    )


def register_index(key: str) -> int | None:
    """Return the register that a condition key names, or None."""
    found = _REGISTER.fullmatch(key.lower())
    if found is None:
        return None
    return 0 if found[2] else int(found[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What the Deny statements keep out, for everybody and every key.

    ``denied`` has the actions that nobody may use. ``pinned`` has the allowed values of registers by action.
    ``attested`` has the actions that need a document.
    """

    denied: frozenset[str]
    pinned: Mapping[str, Mapping[int, frozenset[str]]]
    attested: frozenset[str]


def guards_of(policy: KeyPolicy) -> Guards:
    """Return what the policy's Deny statements keep out."""
    denied: set[str] = set()
    attested: set[str] = set()
    pinned: dict[str, dict[int, frozenset[str]]] = {action: {} for action in RELEASING}
    for statement in policy.statements:
        if not is_for_all(statement):
            continue
        if not statement.conditions:
            denied |= statement.covered
        tests = register_tests(statement)
        if len(statement.conditions) != 1 or not tests:
            continue
        test, covered = tests[0], statement.covered & set(RELEASING)
        if _is_presence_guard(test):
            attested |= covered
        elif _is_value_guard(test):
            values = frozenset(value.lower() for value in test.condition.values)
            for action in covered:
                index = test.index or 0
                pinned[action][index] = values & pinned[action].get(index, values)
    return Guards(denied=frozenset(denied), pinned=pinned, attested=frozenset(attested))


def is_for_all(statement: Statement) -> bool:
    """Return whether a statement is a Deny for everybody and every key."""
    return (
        not statement.is_allow
        and statement.principals.has_everybody
        and statement.resources is not None
        and EVERYBODY in statement.resources
        and not statement.not_resources
    )


def _is_presence_guard(test: RegisterTest) -> bool:
    """Return whether a Deny with this one condition strikes every call without the register."""
    if test.index is None or not test.operator.is_null:
        return False
    return any(value.lower() == "true" for value in test.condition.values)


def _is_value_guard(test: RegisterTest) -> bool:
    """Return whether a Deny with this one condition strikes all but the values."""
    operator = test.operator
    is_equality = operator.base in {"StringEquals", "StringEqualsIgnoreCase"} and operator.negated
    return test.index is not None and is_equality and not (operator.for_any or operator.for_all)


def effective_actions(statement: Statement, guards: Guards) -> frozenset[str]:
    """Return the actions that an Allow lets somebody use: neither denied to all nor conditioned away."""
    if not (statement.is_allow and statement.has_effect):
        return frozenset()
    found = statement.covered - guards.denied
    if any(test.asks_presence for test in register_tests(statement)):
        found &= WITH_RECIPIENT  # no other call can carry a document
    return frozenset(found)


def releasing_actions(statement: Statement, guards: Guards) -> tuple[str, ...]:
    """Return the releasing actions that an Allow lets somebody use."""
    found = effective_actions(statement, guards)
    return tuple(action for action in RELEASING if action in found)


def pinned_registers(statement: Statement, action: str, guards: Guards) -> dict[int, frozenset[str]]:
    """Return the registers that a call through this Allow must have, with their values in lower case."""
    found = dict(guards.pinned.get(action, {}))
    for test in register_tests(statement):
        if test.pins and test.index is not None:
            values = frozenset(value.lower() for value in test.condition.values)
            known = found.get(test.index, values)
            found[test.index] = (values & known) or values
    return found


def asks_document(statement: Statement, action: str, guards: Guards) -> bool:
    """Return whether a call through this Allow needs an attestation document at all."""
    return action in guards.attested or any(test.asks_presence for test in register_tests(statement))


def pinned_context(statement: Statement) -> dict[str, str]:
    """Return the pairs of the encryption context that a call through this Allow must have."""
    found: dict[str, str] = {}
    for one in statement.conditions:
        operator = parse_operator(one.operator)
        is_exact = operator.base == "StringEquals" and operator.is_exact
        is_one = len(one.values) == 1 and not has_variable(one)
        if is_exact and is_one and one.key.lower().startswith(CONTEXT.lower()):
            found[one.key[len(CONTEXT) :].lower()] = one.values[0]
    return found


def has_variable(condition: Condition) -> bool:
    """Return whether a value has a variable such as ``${kms:EncryptionContext:model}``."""
    return any(VARIABLE in value for value in condition.values)


def identities(statement: Statement) -> tuple[str, ...]:
    """Return the roles, sessions and users that a statement names."""
    return tuple(one for one in statement.principals.accounts if is_identity(one))


def accounts(statement: Statement) -> tuple[str, ...]:
    """Return the principals of a statement that mean a whole account."""
    return tuple(one for one in statement.principals.accounts if account_of_principal(one) is not None)


def allows(policy: KeyPolicy) -> Iterator[Statement]:
    """Yield the Allow statements that have an effect."""
    return (one for one in policy.statements if one.is_allow and one.has_effect)
