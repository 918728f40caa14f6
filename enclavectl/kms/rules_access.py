"""Rules about who may do what beside the release, and about guards that do not guard.

K15, K16, K18-K20, K25, K27, K29, K30, K35, K36, K38 and K39.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from enclavectl.kms.actions import PREFIX, RELEASING, WITH_RECIPIENT
from enclavectl.kms.findings import Finding
from enclavectl.kms.fixes import Subject, pinned_release, with_guard, without_actions, without_attestation
from enclavectl.kms.key_policy import EVERYBODY, Statement
from enclavectl.kms.pins import allows, effective_actions, register_tests, releasing_actions
from enclavectl.kms.principals import is_unique_id
from enclavectl.kms.statements import guard

# Calls that use the key and take no Recipient.
_UNATTESTED = (
    *("Encrypt", "ReEncryptFrom", "ReEncryptTo", "Sign", "GenerateMac", "Verify", "VerifyMac"),
    *("GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPairWithoutPlaintext"),
    *("Encapsulate", "Decapsulate"),
)
# Calls of the owner that a Deny for missing documents would strike.
_OWNER_CALLS = frozenset({"PutKeyPolicy", "GetKeyPolicy", "DescribeKey", "ScheduleKeyDeletion", "Encrypt"})
_CALLER_KEYS = ("kms:viaservice", "kms:calleraccount")
_ALIAS_KEYS = ("kms:requestalias", "kms:resourcealiases")


def check_access(subject: Subject) -> Iterator[Finding]:
    """Check every statement."""
    for statement in subject.policy.statements:
        yield from _check_effect(statement)
        yield from _check_names(statement)
    for statement in allows(subject.policy):
        yield from _check_everybody(subject, statement)
        yield from _check_detours(subject, statement)
        yield from _check_administration(subject, statement)
        yield from _check_services(subject, statement)
        yield from _check_void(subject, statement)
    yield from _check_guards(subject)


def _check_effect(statement: Statement) -> Iterator[Finding]:
    if statement.has_effect:
        return
    missing = "Resource" if statement.resources is None else "Action"
    named = ("<ACTION>",) if statement.is_allow else tuple(f"{PREFIX}{one}" for one in RELEASING)
    meant = replace(
        statement, resources=statement.resources or (EVERYBODY,), actions=statement.actions or named
    )
    yield Finding(
        rule="K19",
        statement=statement,
        reason=f"{statement.name} has no {missing}: PutKeyPolicy accepts it, and it does nothing",
        advice=f'add "{missing}"' + (': "*", which means this key' if missing == "Resource" else ""),
        fixed=(meant,),
    )


def _check_names(statement: Statement) -> Iterator[Finding]:
    """Check names that mean something else than they say: unique ids, aliases, GenerateRandom."""
    gone = [one for one in statement.principals.accounts if is_unique_id(one)]
    if gone:
        kept = tuple(one for one in statement.principals.accounts if one not in gone)
        principals = replace(statement.principals, accounts=kept)
        yield Finding(
            rule="K36",
            statement=statement,
            reason=f"{gone[0]}: the role was deleted; one made again under its name is not it",
            advice="name the role of today by its ARN",
            fixed=(replace(statement, principals=principals),) if kept else (),
        )
    aliases = [one for one in statement.resources or () if ":alias/" in one]
    keys = [one.key for one in statement.conditions if one.key.lower() in _ALIAS_KEYS]
    if aliases or keys:
        yield Finding(
            rule="K35",
            statement=statement,
            reason=f"{(aliases + keys)[0]} names an alias, which can be moved to another key",
            advice='in a key policy "*" means this key; elsewhere use the key\'s ARN',
            fixed=(
                replace(
                    statement,
                    resources=(EVERYBODY,),
                    conditions=tuple(one for one in statement.conditions if one.key not in keys),
                ),
            ),
        )
    named = [one for one in statement.actions or () if one.lower().rstrip("*") == "kms:generaterandom"]
    if named and not statement.not_actions:
        yield Finding(
            rule="K30",
            statement=statement,
            reason="the call names no key: only IAM policies see it",
            advice="leave it out; an IAM policy of the caller may ask for attestation",
            fixed=without_actions(statement, {"GenerateRandom"}),
        )


def _check_everybody(subject: Subject, statement: Statement) -> Iterator[Finding]:
    principals = statement.principals
    strangers = _strangers(subject, statement)
    if principals.has_everybody or principals.negated:
        what = "NotPrincipal means everybody else" if principals.negated else '"*" is every account of AWS'
        reason = f"{what}: whoever starts the image may ask, and the owner pays"
    elif strangers:
        reason = f"{strangers[0]} is none of the operator's roles"
    else:
        reason = ""
    if reason:
        is_release = bool(releasing_actions(statement, subject.guards))
        yield Finding(
            rule="K20",
            statement=statement,
            reason=reason,
            advice="name the operator's roles by their ARNs",
            fixed=pinned_release(subject, statement) if is_release else (),
        )
    if statement.not_actions:
        yield Finding(
            rule="K25",
            statement=statement,
            reason=f"everything but {', '.join(statement.actions or ())}, also what AWS adds next year",
            advice="name the actions",
            fixed=(),
        )


def _strangers(subject: Subject, statement: Statement) -> list[str]:
    """Return the principals that may decrypt and are not known as the operator's, where those are known."""
    if not subject.facts.parents or not releasing_actions(statement, subject.guards):
        return []
    known = {*subject.facts.parents, *subject.admins}
    return [one for one in statement.principals.accounts if one not in known and one != EVERYBODY]


def _is_admins_only(subject: Subject, statement: Statement) -> bool:
    principals = statement.principals
    only = set(principals.accounts) <= subject.admins and not principals.others
    return only and not principals.negated


def _check_detours(subject: Subject, statement: Statement) -> Iterator[Finding]:
    if _is_admins_only(subject, statement):
        return  # K28 says what an administrator must not have
    actions = effective_actions(statement, subject.guards)
    who = ", ".join(statement.principals.accounts) or "the principal"
    moves = sorted(actions & {"ReEncryptFrom", "ReEncryptTo"})
    if "CreateGrant" in actions:
        yield Finding(
            rule="K15",
            statement=statement,
            reason=f"{who} grants itself Decrypt; a grant knows the encryption context, and no attestation",
            advice="take CreateGrant out, and deny it to everybody",
            fixed=with_guard(subject.policy, without_actions(statement, {"CreateGrant"})),
        )
    if "ReEncryptFrom" in actions:
        yield Finding(
            rule="K16",
            statement=statement,
            reason=f"{who} moves the sealed key under a key of its own, and decrypts it there",
            advice="take ReEncrypt out, and deny it to everybody",
            fixed=with_guard(subject.policy, without_actions(statement, moves)),
        )


def _check_administration(subject: Subject, statement: Statement) -> Iterator[Finding]:
    actions = effective_actions(statement, subject.guards)
    if "PutKeyPolicy" not in actions or _is_admins_only(subject, statement):
        return
    who = ", ".join(one for one in statement.principals.accounts if one not in subject.admins)
    kept = tuple(one for one in statement.principals.accounts if one in subject.admins)
    rest = replace(statement, principals=replace(statement.principals, accounts=kept))
    fixed = (rest,) if kept else without_actions(statement, {"PutKeyPolicy"})
    yield Finding(
        rule="K29",
        statement=statement,
        reason=f"{who or 'a principal'} writes the policy, and so writes away its conditions",
        advice="give PutKeyPolicy to one role of the owner; a key in the owner's account is safe from others",
        fixed=fixed,
    )


def _check_services(subject: Subject, statement: Statement) -> Iterator[Finding]:
    if not releasing_actions(statement, subject.guards):
        return
    keys = [one.key for one in statement.conditions if one.key.lower() in _CALLER_KEYS]
    found = [f"{kind} {name}" for kind, name in statement.principals.others] + keys
    if found:
        yield Finding(
            rule="K39",
            statement=statement,
            reason=f"{found[0]}: a service or any role of an account decrypts for the parent",
            advice="name the operator's roles by their ARNs",
            fixed=pinned_release(subject, statement),
        )


def _check_void(subject: Subject, statement: Statement) -> Iterator[Finding]:
    """Check for conditions on attestation where the call cannot carry a document."""
    tests = [test for test in register_tests(statement) if test.asks_presence]
    void = [one for one in _UNATTESTED if one in statement.covered - subject.guards.denied]
    if not tests or not void:
        return
    explicit = tuple(f"{PREFIX}{one}" for one in void)
    others = set(RELEASING) & statement.covered
    sealing = replace(without_attestation(statement), actions=explicit)
    owners = _is_admins_only(subject, statement) or statement.covered <= {"Encrypt"}
    yield Finding(
        rule="K27",
        statement=statement,
        reason=f"{', '.join(void)}: never with a document, so {statement.name} never allows it",
        advice="let the owner's own role seal, with a condition on the encryption context alone",
        fixed=(sealing,) if owners and not others else without_actions(statement, void),
    )


def _check_guards(subject: Subject) -> Iterator[Finding]:
    """Check each Deny for a missing document: too wide strikes the owner, too narrow leaves calls open."""
    guarding: set[str] = set()
    partial: list[Statement] = []
    for statement in subject.policy.statements:
        tests = [test for test in register_tests(statement) if test.operator.is_null]
        if statement.is_allow or not tests or not statement.has_effect:
            continue
        covered = statement.covered
        if struck := sorted(covered & _OWNER_CALLS):
            yield Finding(
                rule="K18",
                statement=statement,
                reason=f"{statement.name} strikes {', '.join(struck)}: nobody can seal, change or delete",
                advice=f"deny {', '.join(RELEASING)} only",
                fixed=(replace(guard(), sid=statement.sid or guard().sid),),
            )
        guarding |= covered & WITH_RECIPIENT
        partial.append(statement)
    left = [one for one in RELEASING if one not in guarding]
    if partial and left:
        statement = partial[0]
        yield Finding(
            rule="K38",
            statement=statement,
            reason=f"{', '.join(left)} would be open to a later Allow",
            advice=f"name {', '.join(RELEASING)}",
            fixed=(replace(guard(), sid=statement.sid or guard().sid),),
        )
