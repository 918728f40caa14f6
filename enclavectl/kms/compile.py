"""The compiler: from our policy to the key policy that releases a key to its releases and nobody else.

The same request gives the same bytes: nothing here reads a clock, and releases stand in the order of their
Sids. The owner's account holds the key; a key in the operator's account is the operator's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from enclavectl.kms import statements
from enclavectl.kms.key_policy import MAX_KEY_POLICY_BYTES, KeyPolicy, KeyPolicyError, Statement
from enclavectl.kms.principals import account_of_key, parse_caller
from enclavectl.kms.releases import KeyRelease
from enclavectl.label import MODEL_PCR

# A key of the encryption context becomes a part of a condition key's name.
_CONTEXT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# What PutKeyPolicy takes is Latin-1; ASCII reads the same in every tool. ${ would begin a variable.
_CONTEXT_VALUE = re.compile(r"(?:(?!\$\{)[ -~]){1,256}")
_MAX_CONTEXT = 16  # pairs; the sealing needs two, and each stands in every release's statement
_MAX_PARENTS = 16  # roles; they stand in every release's statement as well
KEY_PLACEHOLDER = "KEY-ARN"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicyRequest:
    """What a key policy is compiled from. ``admin`` is the owner's role, ``parents`` are the operator's.

    ``context`` is the encryption context that the weights are sealed with. ``irrevocable`` leaves out the
    right to change the policy ever again.

    Raises:
        KeyPolicyError: ``principal`` (no role or user, or the administrator is a parent too), ``context``,
            ``no-release`` or ``no-model-register``.
    """

    releases: tuple[KeyRelease, ...]
    admin: str
    parents: tuple[str, ...]
    context: Mapping[str, str]
    revoked: tuple[Mapping[int, bytes], ...] = ()
    irrevocable: bool = False

    @property
    def is_in_operators_account(self) -> bool:
        """True if the administrator is in a parent's account: the key is then the operator's."""
        return parse_caller(self.admin).account in {parse_caller(one).account for one in self.parents}

    def __post_init__(self) -> None:
        """Check the rule above."""
        _check_principals(self.admin, self.parents)
        _check_context(self.context)
        if not self.releases:
            raise KeyPolicyError(
                "policy: expected a release that has not expired, found none",
                hint="enclavectl policy add puts one in",
                code="no-release",
            )
        for release in self.releases:
            if MODEL_PCR not in release.pcrs:
                raise KeyPolicyError(
                    f"release {release.name}: PCR16 is missing, so the key would go to any model",
                    hint="enclavectl policy new --from-lock pins it: build writes PCR16 into the lock",
                    code="no-model-register",
                )


def compile_key_policy(request: KeyPolicyRequest) -> KeyPolicy:
    """Write the key policy: the owner's statements, one for each release, and the guards.

    Raises:
        KeyPolicyError: ``key-policy-size``, more than KMS takes.
    """
    listed = [
        statements.owner_admin(request.admin, irrevocable=request.irrevocable),
        statements.owner_seals(request.admin, request.context),
        *(
            statements.release_statement(one, request.parents, request.context)
            for one in sorted(request.releases, key=lambda one: one.sid)
        ),
        statements.guard(),
        statements.never(),
        statements.zero(),
        *(statements.revoked(pcrs, number) for number, pcrs in enumerate(request.revoked, start=1)),
    ]
    compiled = placed(listed)
    if (size := len(compiled.to_bytes())) > MAX_KEY_POLICY_BYTES:
        raise KeyPolicyError(
            f"key policy: KMS takes {MAX_KEY_POLICY_BYTES} bytes, found {size} for {len(request.releases)} "
            "releases",
            hint="retire releases that nobody runs: enclavectl policy retire",
            code="key-policy-size",
        )
    return compiled


def check_key(request: KeyPolicyRequest, key: str) -> None:
    """Check that a key can have this policy: it is in the administrator's account.

    Raises:
        UsageError: ``key`` is not the ARN of a key.
        KeyPolicyError: ``principal``, it is in another account, from which KMS takes no PutKeyPolicy.
    """
    account, admin = account_of_key(key), parse_caller(request.admin)
    if account != admin.account:
        raise KeyPolicyError(
            f"key: expected one of account {admin.account}, the administrator's, found one of {account}",
            hint="KMS takes PutKeyPolicy from the key's own account only",
            code="principal",
        )


def placed(listed: list[Statement]) -> KeyPolicy:
    """Make a policy of statements, each with its position."""
    return KeyPolicy(
        statements=tuple(replace(one, place=number) for number, one in enumerate(listed, start=1))
    )


def operator_policy(key: str | None) -> dict[str, object]:
    """Return the IAM policy for the operator's roles: a key of another account needs both policies.

    ``key`` is the key's ARN; None leaves a placeholder.

    Raises:
        UsageError: ``key`` is not the ARN of a key.
    """
    if key is not None:
        account_of_key(key)
    statement = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": key or KEY_PLACEHOLDER}
    return {"Version": "2012-10-17", "Statement": [statement]}


def put_commands(file: str, request: KeyPolicyRequest, key: str | None, *, iam_file: str) -> tuple[str, ...]:
    """Return the commands that put the policies: the owner's, then one for each of the operator's roles.

    ``file`` and ``iam_file`` are where the key policy and the operator's IAM policy are.
    """
    named = shlex.quote(key or KEY_PLACEHOLDER)
    bypass = " --bypass-policy-lockout-safety-check" if request.irrevocable else ""
    owner = (
        f"aws kms put-key-policy --key-id {named} --policy-name default"
        f" --policy {shlex.quote(f'file://{file}')}{bypass}"
    )
    roles = [parse_caller(one) for one in request.parents]
    return (
        owner,
        *(
            f"aws iam put-{one.kind}-policy --{one.kind}-name {shlex.quote(one.name)}"
            f" --policy-name enclavectl-decrypt --policy-document {shlex.quote(f'file://{iam_file}')}"
            for one in roles
        ),
    )


def _check_principals(admin: str, parents: tuple[str, ...]) -> None:
    if not 1 <= len(parents) <= _MAX_PARENTS or len(set(parents)) != len(parents):
        raise KeyPolicyError(
            f"parents: expected 1 to {_MAX_PARENTS} different roles, found {len(parents)}",
            hint="name each role of the operator once: --parent ARN",
            code="principal",
        )
    for arn in (admin, *parents):
        if ":assumed-role/" in arn:
            raise KeyPolicyError(
                f"expected a role's ARN, found that of a session: {arn:.200}",
                hint="name the role: arn:aws:iam::ACCOUNT:role/NAME",
                code="principal",
            )
        parse_caller(arn)
    if admin in parents:
        raise KeyPolicyError(
            "the administrator of the key is also a parent: it could write the conditions away",
            hint="the key belongs in the model owner's account, with a role of the owner's as administrator",
            code="principal",
        )


def _check_context(context: Mapping[str, str]) -> None:
    names = [name.lower() for name in context]
    if not 1 <= len(names) <= _MAX_CONTEXT or len(set(names)) != len(names):
        raise KeyPolicyError(
            f"context: expected 1 to {_MAX_CONTEXT} pairs whose names differ in more than case, "
            f"found {len(names)}",
            hint="such as --context model=demo-lesion; it is the context that the weights are sealed with",
            code="context",
        )
    for name, value in context.items():
        if _CONTEXT_NAME.fullmatch(name) is None or _CONTEXT_VALUE.fullmatch(value) is None:
            raise KeyPolicyError(
                f"context: expected a name of letters, digits, _, . and -, and a printable ASCII value "
                f"without ${{, found {name!r:.80}={value!r:.80}",
                code="context",
            )
