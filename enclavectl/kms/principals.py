"""ARNs of principals and keys, and which callers a statement's principals mean.

Rules: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from enclavectl.errors import UsageError
from enclavectl.kms.key_policy import EVERYBODY, Principals

_PARTITION = r"aws(?:-[a-z]+)*"
_IDENTITY = re.compile(
    rf"arn:{_PARTITION}:(?:iam::(?P<account>\d{{12}}):(?P<kind>role|user)/(?P<path>[!-.0-~/]*/)?"
    rf"(?P<name>[\w+=,.@-]{{1,64}})"
    rf"|sts::(?P<session_account>\d{{12}}):assumed-role/(?P<role>[\w+=,.@-]{{1,64}})/[\w+=,.@-]{{2,64}})",
    re.ASCII,
)
_ACCOUNT = re.compile(rf"(?:arn:{_PARTITION}:iam::)?(\d{{12}})(?::root)?", re.ASCII)
_KEY = re.compile(rf"arn:{_PARTITION}:kms:[a-z0-9-]+:(\d{{12}}):key/[\w-]{{1,64}}", re.ASCII)
# Prefixes of unique ids: a role, a user. KMS shows one in place of an ARN whose role is gone.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
_UNIQUE_ID = re.compile(r"A(?:ROA|IDA)[A-Z0-9]{12,}", re.ASCII)


class Match(StrEnum):
    """How a statement's principals mean a caller."""

    IDENTITY = "identity"
    """By its own ARN."""
    EVERYBODY = "everybody"
    """By ``*``, or by a NotPrincipal that does not name it."""
    ACCOUNT = "account"
    """By its account: the account's IAM policies decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The identity that makes a call: a role, one of its sessions, or a user.

    ``name`` is without the path: a session's ARN does not have its role's.
    """

    arn: str
    account: str
    kind: str
    name: str

    @property
    def principal_arn(self) -> str:
        """The value of ``aws:PrincipalArn``: of a session, the role's."""
        if ":assumed-role/" not in self.arn:
            return self.arn
        partition = self.arn.split(":")[1]
        return f"arn:{partition}:iam::{self.account}:role/{self.name}"


def parse_caller(arn: str) -> Caller:
    """Read the ARN of a role, a session of a role, or a user.

    Raises:
        UsageError: it is none of them.
    """
    found = _IDENTITY.fullmatch(arn)
    if found is None:
        raise UsageError(
            f"expected the ARN of a role or a user, found {arn!r:.200}",
            hint="such as arn:aws:iam::111122223333:role/KeyAdmin; aws sts get-caller-identity prints yours",
        )
    if found["role"]:
        return Caller(arn=arn, account=found["session_account"], kind="role", name=found["role"])
    return Caller(arn=arn, account=found["account"], kind=found["kind"], name=found["name"])


def is_identity(text: str) -> bool:
    """Return whether ``text`` is the ARN of a role, a session or a user."""
    return _IDENTITY.fullmatch(text) is not None


def account_of_principal(text: str) -> str | None:
    """Return the account's number if ``text`` means a whole account, as a number or as its root."""
    found = _ACCOUNT.fullmatch(text)
    return None if found is None else found[1]


def is_unique_id(text: str) -> bool:
    """Return whether ``text`` is the unique id of a role or a user."""
    return _UNIQUE_ID.fullmatch(text) is not None


def account_of_key(arn: str) -> str:
    """Return the account of a key's ARN.

    Raises:
        UsageError: it is no key's ARN; an alias is none.
    """
    found = _KEY.fullmatch(arn)
    if found is None:
        raise UsageError(
            f"expected the ARN of a key, found {arn!r:.200}",
            hint="such as arn:aws:kms:eu-central-1:111122223333:key/...; an alias may be moved to another",
        )
    return found[1]


def match_caller(principals: Principals, caller: Caller) -> Match | None:
    """Return how ``principals`` mean ``caller``, or None if they do not."""
    found = _named(principals, caller)
    if principals.negated:
        return Match.EVERYBODY if found is None else None
    return found


def _named(principals: Principals, caller: Caller) -> Match | None:
    if any(_is(one, caller) for one in principals.accounts):
        return Match.IDENTITY
    if EVERYBODY in principals.accounts:
        return Match.EVERYBODY
    if any(account_of_principal(one) == caller.account for one in principals.accounts):
        return Match.ACCOUNT
    return None


def _is(principal: str, caller: Caller) -> bool:
    if principal in {caller.arn, caller.principal_arn}:
        return True
    if not is_identity(principal) or ":assumed-role/" in principal:
        return False
    named = parse_caller(principal)
    # A session's ARN lacks the role's path, so only the name can be compared.
    is_session = ":assumed-role/" in caller.arn
    return is_session and (named.account, named.kind, named.name) == (caller.account, "role", caller.name)
