"""A key policy as values, and as the bytes that PutKeyPolicy takes.

The grammar: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from enclavectl.errors import UsageError
from enclavectl.kms.actions import ACTIONS, named_by, names

# Bytes: AWS's quota for a key policy document.
# https://docs.aws.amazon.com/kms/latest/developerguide/resource-limits.html
MAX_KEY_POLICY_BYTES = 32 * 1024
VERSION = "2012-10-17"
EVERYBODY = "*"


class KeyPolicyError(UsageError):
    """A key policy cannot be read, or cannot be compiled. ``code`` is stable and meant for programs."""


class Effect(StrEnum):
    """What a statement does to the calls that it matches."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """Whom a statement names. ``accounts`` has the ARNs, account numbers and unique ids below ``AWS``.

    ``others`` has the kind (Service, Federated, CanonicalUser) and the name of each principal of these kinds.
    ``negated`` says that the statement has NotPrincipal.
    """

    accounts: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    negated: bool = False

    @property
    def has_everybody(self) -> bool:
        """True if the statement names ``*``."""
        return not self.negated and EVERYBODY in self.accounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One key below one operator; ``operator`` is as in the file, such as ``ForAnyValue:StringLike``."""

    operator: str
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement. ``actions`` or ``resources`` is None if the statement has neither form of it.

    ``place`` is the statement's position, counted from 1.
    """

    place: int = 0
    sid: str | None = None
    effect: Effect
    principals: Principals
    actions: tuple[str, ...] | None
    not_actions: bool = False
    resources: tuple[str, ...] | None = (EVERYBODY,)
    not_resources: bool = False
    conditions: tuple[Condition, ...] = ()

    @property
    def name(self) -> str:
        """The statement's Sid, or its position."""
        return f"statement {self.place}" if self.sid is None else self.sid

    @property
    def is_allow(self) -> bool:
        """True for Allow."""
        return self.effect is Effect.ALLOW

    @property
    def has_effect(self) -> bool:
        """True unless Action or Resource is missing: KMS accepts such a statement and ignores it."""
        return self.actions is not None and self.resources is not None

    def covers(self, action: str) -> bool:
        """Return whether the statement is about ``action`` (without ``kms:``)."""
        if self.actions is None:
            return False
        named = action in named_by(self.actions) if action in ACTIONS else names(self.actions, action)
        return named is not self.not_actions

    @property
    def covered(self) -> frozenset[str]:
        """The known actions, without ``kms:``, that the statement is about."""
        named = named_by(self.actions or ())
        return frozenset(named_by(("*",)) - named) if self.not_actions else named

    def to_json(self) -> dict[str, object]:
        """Return the statement as PutKeyPolicy takes it; a list of one is written as its element."""
        value: dict[str, object] = {} if self.sid is None else {"Sid": self.sid}
        value["Effect"] = self.effect.value
        value["NotPrincipal" if self.principals.negated else "Principal"] = _principals_json(self.principals)
        if self.actions is not None:
            value["NotAction" if self.not_actions else "Action"] = _one_or_many(self.actions)
        if self.resources is not None:
            value["NotResource" if self.not_resources else "Resource"] = _one_or_many(self.resources)
        operators: dict[str, dict[str, object]] = {}
        for one in self.conditions:
            operators.setdefault(one.operator, {})[one.key] = _one_or_many(one.values)
        if operators:
            value["Condition"] = operators
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """A key policy. ``size`` is the length of the text that was read, in bytes; 0 for one that was made."""

    statements: tuple[Statement, ...]
    version: str = VERSION
    identifier: str | None = None
    size: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the policy as PutKeyPolicy takes it."""
        value: dict[str, object] = {"Version": self.version}
        if self.identifier is not None:
            value["Id"] = self.identifier
        return {**value, "Statement": [one.to_json() for one in self.statements]}

    def to_bytes(self) -> bytes:
        """Encode the policy with one statement on each line: short, and `diff` shows statements."""
        head = {key: value for key, value in self.to_json().items() if key != "Statement"}
        members = json.dumps(head, separators=(",", ":"))[:-1]
        lines = ",\n".join(json.dumps(one.to_json(), separators=(",", ":")) for one in self.statements)
        return f'{members},"Statement":[\n{lines}\n]}}\n'.encode()


def _principals_json(principals: Principals) -> object:
    kinds: dict[str, list[str]] = {"AWS": list(principals.accounts)} if principals.accounts else {}
    for kind, name in principals.others:
        kinds.setdefault(kind, []).append(name)
    return {kind: _one_or_many(found) for kind, found in kinds.items()}


def _one_or_many(values: Sequence[str]) -> object:
    return values[0] if len(values) == 1 else list(values)
