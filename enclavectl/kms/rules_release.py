"""Rules about Allow statements that hand out plaintext (K01-K03, K06-K08, K14, K17, K21, K23, K24, K28)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from enclavectl.kms import statements
from enclavectl.kms.findings import Finding
from enclavectl.kms.fixes import Subject, pinned_release, without_actions
from enclavectl.kms.key_policy import Statement
from enclavectl.kms.pins import (
    accounts,
    allows,
    asks_document,
    effective_actions,
    identities,
    pinned_context,
    pinned_registers,
    register_tests,
    releasing_actions,
)
from enclavectl.label import MODEL_PCR, REQUIRED_PCRS

# Their plaintext is data that the owner sealed before; the other calls make new data.
_OPENS = frozenset({"Decrypt", "DeriveSharedSecret", "ReEncryptFrom"})
_MAKES = frozenset({"GenerateDataKey", "GenerateDataKeyPair"})
_ADVICE = "pin PCR0, PCR1, PCR2 and PCR16 in one statement for each release: enclavectl policy kms writes it"


def check_releases(subject: Subject) -> Iterator[Finding]:
    """Check each Allow that hands out plaintext."""
    for statement in allows(subject.policy):
        actions = releasing_actions(statement, subject.guards)
        named = {*statement.principals.accounts, *(name for _, name in statement.principals.others)}
        if subject.admins & named and effective_actions(statement, subject.guards) & _OPENS:
            yield _administrator(subject, statement)
            actions = ()
        elif named <= subject.admins and not set(actions) - _MAKES:
            actions = ()  # the owner seals with a data key of its own
        if actions:
            yield from _check_principals(subject, statement, actions)
            yield from _check_pins(subject, statement, actions)
            yield from _check_context(subject, statement, actions)


def _administrator(subject: Subject, statement: Statement) -> Finding:
    opens = effective_actions(statement, subject.guards) & _OPENS
    named = ", ".join(sorted(opens))
    who = ", ".join(sorted(subject.admins & set(identities(statement))))
    fixed = without_actions(statement, {*_OPENS, *_MAKES, "CreateGrant", "ReEncryptTo"})
    return Finding(
        rule="K28",
        statement=statement,
        reason=f"{who} may {named}, and may write the policy: it reads the weights without an enclave",
        advice="give the administrator the actions on the key only, and a role of the operator the release",
        fixed=fixed or (_administration(subject, statement) if "PutKeyPolicy" in statement.covered else ()),
    )


def _administration(subject: Subject, statement: Statement) -> tuple[Statement, ...]:
    admin = min(subject.admins & set(identities(statement)))
    sealing = [statements.owner_seals(admin, subject.sealing)] if subject.sealing else []
    known = {one.sid for one in subject.policy.statements if one.place != statement.place}
    return tuple(one for one in (statements.owner_admin(admin), *sealing) if one.sid not in known)


def _check_principals(subject: Subject, statement: Statement, actions: tuple[str, ...]) -> Iterator[Finding]:
    if not accounts(statement):
        return
    named = ", ".join(accounts(statement))
    fixed = pinned_release(subject, statement)
    yield Finding(
        rule="K02",
        statement=statement,
        reason=f"{named} may {', '.join(actions)}: an IAM administrator there allows it to anyone",
        advice="name the role; without a :root statement, IAM policies mean nothing for this key",
        fixed=fixed,
    )
    if not register_tests(statement) and not any(
        asks_document(statement, action, subject.guards) for action in actions
    ):
        yield Finding(
            rule="K03",
            statement=statement,
            reason=f"{named} decides by IAM alone, which its own administrator writes and rewrites",
            advice=_ADVICE,
            fixed=fixed,
        )


def _check_pins(subject: Subject, statement: Statement, actions: tuple[str, ...]) -> Iterator[Finding]:
    """Check which registers the calls need; the action with the fewest decides."""
    action = min(actions, key=lambda one: len(pinned_registers(statement, one, subject.guards)))
    pinned = pinned_registers(statement, action, subject.guards)
    rule, reason = _unpinned(subject, statement, actions, pinned) or ("", "")
    if rule:
        yield Finding(
            rule=rule,
            statement=statement,
            reason=reason,
            advice=_ADVICE,
            fixed=pinned_release(subject, statement),
        )
        return
    own = {test.index for test in register_tests(statement)}
    measured = (*REQUIRED_PCRS, MODEL_PCR)
    mixed = [index for index in measured if index not in own and len(pinned.get(index, ())) > 1]
    if mixed:
        yield Finding(
            rule="K07",
            statement=statement,
            reason=f"the Deny statements leave PCR{mixed[0]} several values, and each passes with each other",
            advice=_ADVICE,
            fixed=pinned_release(subject, statement),
        )


def _unpinned(
    subject: Subject, statement: Statement, actions: tuple[str, ...], pinned: Mapping[int, frozenset[str]]
) -> tuple[str, str] | None:
    """Return the rule and the reason if the image or the model is left open."""
    missing = [f"PCR{index}" for index in REQUIRED_PCRS if index not in pinned]
    named = ", ".join(f"PCR{index}" for index in sorted(pinned))
    if not missing:
        return None if MODEL_PCR in pinned else ("K23", "the same runtime with any other model gets the key")
    if len(missing) < len(REQUIRED_PCRS):
        return "K06", f"{', '.join(missing)} may be anything: PCR0 hashes its parts without their borders"
    if pinned:
        return (
            ("K24", f"the program inside sets {named}: any image can extend the same value")
            if max(pinned) >= MODEL_PCR
            else ("K08", f"{named} pass other images too: any of this host, or all that the signer signed")
        )
    if all(asks_document(statement, action, subject.guards) for action in actions):
        return "K14", "any Nitro enclave of anybody has a document"
    return _unattested(statement, actions)


def _unattested(statement: Statement, actions: tuple[str, ...]) -> tuple[str, str] | None:
    who = ", ".join(statement.principals.accounts) or "the principal"
    if accounts(statement) and not register_tests(statement):
        return None  # K03 says it
    if not set(actions) - _MAKES:
        return "K17", f"{who} makes the data key in the clear, before any weights are sealed under it"
    return "K01", f"{who} calls {', '.join(actions)} without a document and gets the plaintext"


def _check_context(subject: Subject, statement: Statement, actions: tuple[str, ...]) -> Iterator[Finding]:
    if not {"Decrypt", "GenerateDataKey", "GenerateDataKeyPair"} & set(actions):
        return  # DeriveSharedSecret has no encryption context
    found = pinned_context(statement)
    wrong = sorted(name for name, value in subject.sealing.items() if found.get(name) != value)
    if found and not wrong:
        return
    names = ", ".join(wrong) if wrong else "any pair"
    yield Finding(
        rule="K21",
        statement=statement,
        reason=f"{names}: not pinned to one value, so blobs sealed for something else are opened too",
        advice="ask for the pairs that the weights are sealed with, each by StringEquals and one value",
        fixed=pinned_release(subject, statement),
    )
