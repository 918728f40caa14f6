"""What the lint may know beside the policy's text: our policy, a lock, the key's metadata, its grants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from enclavectl.json_object import JsonError, JsonObject
from enclavectl.kms.key_policy import KeyPolicyError
from enclavectl.kms.principals import parse_caller
from enclavectl.kms.releases import KeyRelease

MAX_AWS_BYTES = 1 << 20  # an answer of describe-key has 1 KiB; list-grants has at most 1,000 grants a page


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMetadata:
    """What ``aws kms describe-key`` says of a key. ``custom_store`` is the id of a custom key store."""

    arn: str
    account: str
    enabled: bool
    multi_region: bool
    origin: str
    spec: str
    usage: str
    custom_store: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFacts:
    """Facts for rules that need more than the text; what is None is not known, and its rules are left out.

    ``releases`` are those of our policy at ``at``; ``revoked`` has the tuples that a Deny must keep out.
    ``built`` has the registers of a lock. ``admin`` is the owner's role, and ``parents`` the operator's.
    ``grants`` has the ids of the key's grants. ``key_id`` is what the key is called where it is used.

    Raises:
        UsageError: ``admin`` or a parent is no role or user.
    """

    at: datetime | None = None
    releases: tuple[KeyRelease, ...] | None = None
    revoked: tuple[Mapping[int, bytes], ...] = ()
    built: Mapping[int, bytes] | None = None
    admin: str | None = None
    parents: tuple[str, ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    key: KeyMetadata | None = None
    key_id: str | None = None
    grants: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the rule above."""
        for arn in (*self.parents, *(() if self.admin is None else (self.admin,))):
            parse_caller(arn)


def parse_key_metadata(data: bytes, *, source: str) -> KeyMetadata:
    """Read what ``aws kms describe-key`` printed.

    Raises:
        KeyPolicyError: ``key-metadata``.
    """
    try:
        value = JsonObject.parse(data, limit=MAX_AWS_BYTES).object("KeyMetadata")
        return KeyMetadata(
            arn=value.string("Arn"),
            account=value.string("AWSAccountId"),
            enabled=value.boolean("Enabled"),
            multi_region=value.boolean("MultiRegion") if "MultiRegion" in value else False,
            origin=value.string("Origin"),
            spec=value.string("KeySpec"),
            usage=value.string("KeyUsage"),
            custom_store=value.optional_string("CustomKeyStoreId"),
        )
    except JsonError as exc:
        raise KeyPolicyError(
            f"{source}: expected what aws kms describe-key prints: {exc}",
            hint="aws kms describe-key --key-id KEY-ARN > FILE",
            code="key-metadata",
        ) from exc


def parse_grants(data: bytes, *, source: str) -> tuple[str, ...]:
    """Read the ids of what ``aws kms list-grants`` printed.

    Raises:
        KeyPolicyError: ``grants``.
    """
    try:
        value = JsonObject.parse(data, limit=MAX_AWS_BYTES)
        return tuple(one.string("GrantId") for one in value.objects("Grants"))
    except JsonError as exc:
        raise KeyPolicyError(
            f"{source}: expected what aws kms list-grants prints: {exc}",
            hint="aws kms list-grants --key-id KEY-ARN > FILE",
            code="grants",
        ) from exc
