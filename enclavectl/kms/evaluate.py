"""The evaluator: whether a key policy lets a call through, and which statement and key decided.

It is what KMS does with a key policy once it has checked the caller's signature and the attestation document.
KMS itself answers AccessDenied and names no condition. The order of the rules:
https://docs.aws.amazon.com/kms/latest/developerguide/policy-evaluation.html. Grants are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from enclavectl.kms.actions import CROSS_ACCOUNT, WITH_RECIPIENT, like
from enclavectl.kms.key_policy import Condition, Effect, KeyPolicy, Statement
from enclavectl.kms.operators import VARIABLE, holds, parse_operator
from enclavectl.kms.principals import Caller, Match, account_of_key, match_caller

ATTESTATION = "kms:RecipientAttestation:"
CONTEXT = "kms:EncryptionContext:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """The registers of a call's attestation document, by number.

    ``nitrotpm`` says that it is the document of an EC2 instance with NitroTPM, not of an enclave.
    """

    pcrs: Mapping[int, bytes]
    nitrotpm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of KMS. ``at`` has a time zone.

    ``key`` is the key's ARN; None leaves the key open: then every Resource is about it, and nothing is said
    of other accounts. ``iam_allows`` says whether the caller's own IAM policies allow the call; True is the
    worst case. ``keys`` has the values of further condition keys, such as ``aws:SourceIp``.
    """

    caller: Caller
    action: str
    at: datetime
    key: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    recipient: Recipient | None = None
    iam_allows: bool = True
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One condition, and what the call has: ``found`` is None where the call lacks the key."""

    condition: Condition
    found: tuple[str, ...] | None
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one statement says to a call. ``match`` is None if it is about another caller.

    ``covers`` says that it is about the action and the key. ``tested`` has its conditions if it is about all
    three.
    """

    statement: Statement
    match: Match | None
    covers: bool
    tested: tuple[Tested, ...]

    @property
    def failing(self) -> tuple[Tested, ...]:
        """The conditions that are not true of the call."""
        return tuple(one for one in self.tested if not one.holds)

    @property
    def is_about(self) -> bool:
        """True if the statement is about this caller, action and key."""
        return self.match is not None and self.covers

    @property
    def applies(self) -> bool:
        """True if every condition is true as well."""
        return self.is_about and not self.failing


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a call, why, and the statement and the condition key that decided.

    ``statement`` is None if no statement is about the caller and the action; ``key`` is None if no condition
    decided. ``outcomes`` has every statement.
    """

    allowed: bool
    reason: str
    statement: Statement | None
    key: str | None
    outcomes: tuple[Outcome, ...]


def evaluate(policy: KeyPolicy, call: Call) -> Verdict:
    """Judge a call as KMS does: a Deny that applies beats every Allow; without an Allow it is refused."""
    values = condition_values(call)
    has_variables = policy.version != "2008-10-17"  # that version has none
    outcomes = tuple(_outcome(one, call, values, has_variables) for one in policy.statements)
    for outcome in outcomes:
        if outcome.statement.effect is Effect.DENY and outcome.applies:
            key = outcome.tested[0].condition.key if outcome.tested else None
            reason = f"{outcome.statement.name} denies it" + (
                f", by {key}" if key else " whatever the call has"
            )
            return Verdict(
                allowed=False, reason=reason, statement=outcome.statement, key=key, outcomes=outcomes
            )
    allows = [one for one in outcomes if one.statement.is_allow and one.is_about]
    applying = [one for one in allows if one.applies]
    if not applying:
        return _unmatched(allows, outcomes)
    refusal = _other_account(call) or _iam(call, applying)
    first = next((one for one in applying if one.match is not Match.ACCOUNT), applying[0])
    if refusal:
        return Verdict(allowed=False, reason=refusal, statement=first.statement, key=None, outcomes=outcomes)
    return Verdict(
        allowed=True,
        reason=f"{first.statement.name} allows it" + _through_iam(call, first),
        statement=first.statement,
        key=None,
        outcomes=outcomes,
    )


def condition_values(call: Call) -> dict[str, tuple[str, ...]]:
    """Return the call's condition keys, in lower case, with their values."""
    at = call.at.astimezone(UTC)
    values: dict[str, tuple[str, ...]] = {
        "aws:currenttime": (at.isoformat(timespec="seconds").replace("+00:00", "Z"),),
        "aws:epochtime": (str(int(at.timestamp())),),
        "aws:principalarn": (call.caller.principal_arn,),
        "aws:principalaccount": (call.caller.account,),
        "kms:calleraccount": (call.caller.account,),
        "aws:securetransport": ("true",),
    }
    for name, value in call.context.items():
        values[f"{CONTEXT}{name}".lower()] = (value,)
    if call.context:
        values["kms:encryptioncontextkeys"] = tuple(call.context)
    if call.recipient is not None and call.action in WITH_RECIPIENT:
        tpm = "NitroTPM" if call.recipient.nitrotpm else ""
        for index, register in call.recipient.pcrs.items():
            values[f"{ATTESTATION}{tpm}PCR{index}".lower()] = (register.hex(),)
        if 0 in call.recipient.pcrs and not tpm:
            values[f"{ATTESTATION}ImageSha384".lower()] = (call.recipient.pcrs[0].hex(),)
    return {**values, **{name.lower(): (value,) for name, value in call.keys.items()}}


def _outcome(
    statement: Statement, call: Call, values: Mapping[str, tuple[str, ...]], has_variables: bool
) -> Outcome:
    covers = statement.has_effect and statement.covers(call.action) and _is_about_key(statement, call.key)
    match = match_caller(statement.principals, call.caller)
    is_about = covers and match is not None
    return Outcome(
        statement=statement,
        match=match,
        covers=covers,
        tested=tuple(_test(one, values, has_variables) for one in statement.conditions if is_about),
    )


def _is_about_key(statement: Statement, key: str | None) -> bool:
    if key is None:
        return True
    named = any(like(one, key) for one in statement.resources or ())
    return named is not statement.not_resources


def _test(condition: Condition, values: Mapping[str, tuple[str, ...]], has_variables: bool) -> Tested:
    found = values.get(condition.key.lower())
    expected = [_expanded(one, values) if has_variables else one for one in condition.values]
    known = [one for one in expected if one is not None]
    return Tested(
        condition=condition, found=found, holds=holds(parse_operator(condition.operator), known, found)
    )


def _expanded(value: str, values: Mapping[str, tuple[str, ...]]) -> str | None:
    """Put the call's values in place of variables; None if the call lacks one, which equals nothing."""
    while VARIABLE in value:
        head, _, rest = value.partition(VARIABLE)
        name, closed, tail = rest.partition("}")
        found = values.get(name.strip().lower()) if closed else None
        if found is None or VARIABLE in found[0]:
            return None
        value = f"{head}{found[0]}{tail}"
    return value


def _unmatched(allows: list[Outcome], outcomes: tuple[Outcome, ...]) -> Verdict:
    """Make the refusal where no Allow applies: the nearest Allow, and the first key that kept it away."""
    if not allows:
        return Verdict(
            allowed=False,
            reason="no statement allows this caller this action",
            statement=None,
            key=None,
            outcomes=outcomes,
        )
    nearest = min(allows, key=lambda one: len(one.failing))
    wrong = nearest.failing[0].condition
    return Verdict(
        allowed=False,
        reason=f"{nearest.statement.name} would allow it, but {wrong.key} does not fit",
        statement=nearest.statement,
        key=wrong.key,
        outcomes=outcomes,
    )


def _is_foreign(call: Call) -> bool:
    return call.key is not None and account_of_key(call.key) != call.caller.account


def _other_account(call: Call) -> str | None:
    if _is_foreign(call) and call.action not in CROSS_ACCOUNT:
        return f"KMS takes {call.action} from the key's own account only, whatever the policy says"
    return None


def _iam(call: Call, applying: list[Outcome]) -> str | None:
    """Return the refusal of the caller's IAM policies, where they count beside the key policy."""
    needed = _is_foreign(call) or all(one.match is Match.ACCOUNT for one in applying)
    if needed and not call.iam_allows:
        return "the key policy leaves it to IAM, and the caller's IAM policies do not allow it"
    return None


def _through_iam(call: Call, first: Outcome) -> str:
    if first.match is Match.ACCOUNT:
        return " to whomever the account's IAM policies allow it"
    return " (the caller's IAM policy must allow it as well)" if _is_foreign(call) else ""
