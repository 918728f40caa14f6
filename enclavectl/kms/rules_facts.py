"""Rules that need more than the text: our policy, a lock, the key itself (K31-K35, K37, K40)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from enclavectl.attestation.registers import role_register
from enclavectl.attestation.times import render_time
from enclavectl.kms import statements
from enclavectl.kms.findings import Finding
from enclavectl.kms.fixes import Subject, pinned_release
from enclavectl.kms.key_policy import MAX_KEY_POLICY_BYTES, Statement
from enclavectl.kms.operators import parse_operator, to_time
from enclavectl.kms.pins import (
    Guards,
    allows,
    identities,
    is_for_all,
    pinned_registers,
    register_tests,
    releasing_actions,
)
from enclavectl.kms.principals import account_of_principal, is_identity, parse_caller
from enclavectl.kms.releases import KeyRelease
from enclavectl.label import REQUIRED_PCRS

# What the API's model allows in a policy: tabs, line ends, printable ASCII and Latin-1.
# https://docs.aws.amazon.com/kms/latest/APIReference/API_PutKeyPolicy.html
_TEXT = re.compile(r"[\t\n\r\x20-\xff]*")
_SECOND = timedelta(seconds=1)


def check_facts(subject: Subject) -> Iterator[Finding]:
    """Check what the facts allow to check."""
    yield from _check_text(subject)
    yield from _check_key(subject)
    yield from _check_grants(subject)
    for statement in allows(subject.policy):
        if releasing_actions(statement, subject.guards):
            yield from _check_release(subject, statement)
    yield from _check_revoked(subject)
    yield from _suggest_host(subject)


def _check_text(subject: Subject) -> Iterator[Finding]:
    size = subject.policy.size or len(subject.policy.to_bytes())
    if size > MAX_KEY_POLICY_BYTES:
        yield Finding(
            rule="K37",
            statement=None,
            reason=f"{size} bytes; KMS takes {MAX_KEY_POLICY_BYTES}",
            advice="leave out releases that nobody runs, and white space",
        )
    for statement in subject.policy.statements:
        texts = _texts(statement.to_json())
        wrong = next((text for text in texts if not _TEXT.fullmatch(text)), None)
        if wrong is not None:
            yield Finding(
                rule="K37",
                statement=statement,
                reason=f"{wrong!r:.60} has a character outside Latin-1",
                advice="write ASCII; names of releases do not belong into a key policy",
            )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from (name, *_texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _check_key(subject: Subject) -> Iterator[Finding]:
    facts = subject.facts
    if facts.key_id is not None and ":key/" not in facts.key_id:
        yield Finding(
            rule="K35",
            statement=None,
            reason=f"{facts.key_id:.100} is no key's ARN",
            advice="name the key by its ARN wherever the weights are sealed or opened",
        )
    if facts.key is None:
        return
    operators = sorted(
        {
            account
            for statement in allows(subject.policy)
            if releasing_actions(statement, subject.guards)
            for one in statement.principals.accounts
            if one not in subject.admins and (account := _account(one)) is not None
        }
    )
    if facts.key.account in operators:
        yield Finding(
            rule="K32",
            statement=None,
            reason=f"key and parent are both in {facts.key.account}: its administrators made the key, "
            "hold or held PutKeyPolicy, and may have grants",
            advice="make a key in the model owner's account, and seal the weights under that",
        )
    for problem in _key_problems(subject):
        yield Finding(
            rule="K34",
            statement=None,
            reason=problem,
            advice="make a single-Region key of KMS's own material: aws kms create-key",
        )


def _key_problems(subject: Subject) -> Iterator[str]:
    key = subject.facts.key
    if key is None:
        return
    if key.multi_region:
        yield "the key is multi-Region: each replica has a key policy of its own"
    if key.origin == "EXTERNAL":
        yield "the key's material was imported (Origin EXTERNAL): a copy exists outside KMS"
    elif key.origin != "AWS_KMS" or key.custom_store is not None:
        yield f"the key is in a custom key store (Origin {key.origin})"
    if (key.spec, key.usage) != ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"):
        yield f"expected SYMMETRIC_DEFAULT for ENCRYPT_DECRYPT, found {key.spec} for {key.usage}"
    if not key.enabled:
        yield "the key is disabled: nobody can open or seal anything"


def _check_grants(subject: Subject) -> Iterator[Finding]:
    grants = subject.facts.grants
    if not grants:
        return
    sids = {one.sid for one in subject.policy.statements}
    never = statements.never()
    yield Finding(
        rule="K33",
        statement=None,
        reason=f"grants: {len(grants)}, the first {grants[0]:.64}; no grant can ask for attestation",
        advice="aws kms revoke-grant, for each; then deny CreateGrant to everybody",
        fixed=None if never.sid in sids else (never,),
    )


def _check_release(subject: Subject, statement: Statement) -> Iterator[Finding]:
    """Check a release's statement against our policy, a lock and the time."""
    facts = subject.facts
    pinned = _pinned(statement, subject.guards)
    if not all(index in pinned for index in REQUIRED_PCRS):
        return  # other rules say so
    reason = None
    if facts.releases is not None:
        reason = _not_in_policy(statement, pinned, facts.releases)
    elif facts.built is not None:
        reason = _not_as_built(pinned, facts.built)
    if reason is None and facts.at is not None:
        end = _end(statement)
        if end is not None and end <= facts.at:
            reason = f"it ended at {render_time(end)}"
    if reason is not None:
        yield Finding(
            rule="K31",
            statement=statement,
            reason=reason,
            advice="compile the key policy again: enclavectl policy kms",
            fixed=pinned_release(subject, statement) if facts.releases or facts.built else (),
        )


def _pinned(statement: Statement, guards: Guards) -> dict[int, frozenset[str]]:
    actions = releasing_actions(statement, guards)
    found = [pinned_registers(statement, one, guards) for one in actions]
    return min(found, key=len)


def _not_in_policy(
    statement: Statement, pinned: Mapping[int, frozenset[str]], releases: tuple[KeyRelease, ...]
) -> str | None:
    """Return why the statement lets through what no release of our policy does, or None."""
    same = [one for one in releases if _has(pinned, one.pcrs)]
    if not same:
        return "no release of the policy has these registers, or it has expired or was revoked"
    release = same[0]
    end, begin = _end(statement), _begin(statement)
    if release.expires is not None and (end is None or end > release.expires):
        shown = "never ends" if end is None else f"ends at {render_time(end)}"
        return f"it {shown}; release {release.name} expires at {render_time(release.expires)}"
    if release.not_before is not None and (begin is None or begin < release.not_before):
        shown = "has no beginning" if begin is None else f"begins at {render_time(begin)}"
        return f"it {shown}; release {release.name} is valid from {render_time(release.not_before)}"
    return None


def _not_as_built(pinned: Mapping[int, frozenset[str]], built: Mapping[int, bytes]) -> str | None:
    """Return why the registers are no release at all: PCR0 is the lock's, and another register is not."""
    if pinned[0] != frozenset({built[0].hex()}):
        return None  # another release, which another lock describes
    differing = [index for index in built if index in pinned and pinned[index] != {built[index].hex()}]
    if not differing:
        return None
    return f"PCR0 is the lock's, PCR{differing[0]} is not: no image has both"


def _has(pinned: Mapping[int, frozenset[str]], pcrs: Mapping[int, bytes]) -> bool:
    return all(pinned.get(index) == frozenset({value.hex()}) for index, value in pcrs.items())


def _end(statement: Statement) -> datetime | None:
    """Return the first time at which the statement allows nothing any more, or None."""
    times = _times(statement, {"DateLessThan": timedelta(0), "DateLessThanEquals": _SECOND})
    return min(times, default=None)


def _begin(statement: Statement) -> datetime | None:
    """Return the first time at which the statement allows something, or None."""
    times = _times(statement, {"DateGreaterThanEquals": timedelta(0), "DateGreaterThan": _SECOND})
    return max(times, default=None)


def _times(statement: Statement, operators: Mapping[str, timedelta]) -> Iterator[datetime]:
    """Yield the times of conditions with these operators; several values are joined by OR."""
    for one in statement.conditions:
        operator = parse_operator(one.operator)
        if one.key.lower() != "aws:currenttime" or operator.base not in operators:
            continue
        found = [time for value in one.values if (time := to_time(value)) is not None]
        if found:
            bound = max(found) if operator.base.startswith("DateLess") else min(found)
            yield bound + operators[operator.base]


def _check_revoked(subject: Subject) -> Iterator[Finding]:
    """Check that each tuple that our policy revokes in part has its Deny."""
    for number, pcrs in enumerate(subject.facts.revoked, start=1):
        if not any(_strikes(one, pcrs) for one in subject.policy.statements):
            named = ", ".join(f"PCR{index}" for index in sorted(pcrs))
            yield Finding(
                rule="K31",
                statement=None,
                reason=f"the policy revokes a tuple of {named}, and nothing here keeps it out",
                advice="deny it to everybody, as enclavectl policy kms does",
                fixed=(statements.revoked(pcrs, number),),
            )


def _strikes(statement: Statement, pcrs: Mapping[int, bytes]) -> bool:
    """Return whether a Deny strikes every Decrypt of an enclave with these registers."""
    if not is_for_all(statement) or not statement.covers("Decrypt"):
        return False
    tests = register_tests(statement)
    return len(tests) == len(statement.conditions) and all(
        test.operator.is_exact
        and test.index is not None
        and test.index in pcrs
        and pcrs[test.index].hex() in {value.lower() for value in test.condition.values}
        for test in tests
    )


def _suggest_host(subject: Subject) -> Iterator[Finding]:
    """Suggest PCR3 once: it holds a release to the role of one operator's instances."""
    for statement in allows(subject.policy):
        actions = releasing_actions(statement, subject.guards)
        pinned = {test.index for test in register_tests(statement) if test.pins}
        roles = [one for one in identities(statement) if ":role/" in one and one not in subject.admins]
        if not actions or not set(REQUIRED_PCRS) <= pinned or {3, 4} & pinned or not roles:
            continue
        yield Finding(
            rule="K40",
            statement=statement,
            reason=f"any instance that holds the role {roles[0]} may run it",
            advice=f"pin PCR3: {role_register(roles[0]).hex()} is that of the role; PCR4 is one instance's",
        )
        return


def _account(principal: str) -> str | None:
    if is_identity(principal):
        return parse_caller(principal).account
    return account_of_principal(principal)
