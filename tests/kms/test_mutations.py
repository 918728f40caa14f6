"""A compiled policy that was changed at random: what lets a bad call through, the lint finds.

The evaluator is the judge. It knows nothing of the lint, and the lint does not call it.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from enclavectl.kms.compile import KeyPolicyRequest, compile_key_policy
from enclavectl.kms.evaluate import Call, evaluate
from enclavectl.kms.facts import LintFacts
from enclavectl.kms.key_policy import KeyPolicy, KeyPolicyError
from enclavectl.kms.lint import fix, is_clean, lint
from enclavectl.kms.operators import operator_names
from enclavectl.kms.reader import parse_key_policy
from tests.kms.situations import (
    ADMIN,
    BAD,
    CALLS,
    CONTEXT,
    DEV,
    EXPIRES,
    HOST,
    KEY,
    NOW,
    OPERATOR,
    OWNER,
    PARENT,
    RELEASE_A,
    STRANGE,
    A,
    B,
    register,
)

# ENCLAVECTL_TEST_KEY_POLICIES makes so many more changes with each seed; each takes some milliseconds.
ROUNDS, SEEDS = 125 + int(os.environ.get("ENCLAVECTL_TEST_KEY_POLICIES", "0")), 8
BEGINS = NOW - timedelta(days=1)
RELEASE = replace(RELEASE_A, not_before=BEGINS)
REVOKED = {0: A[0], 8: register("leaked signer")}
REQUEST = KeyPolicyRequest(
    releases=(RELEASE,), admin=ADMIN, parents=(PARENT,), context=CONTEXT, revoked=(REVOKED,)
)
FACTS = LintFacts(
    at=NOW, releases=(RELEASE,), revoked=(REVOKED,), admin=ADMIN, parents=(PARENT,), context=CONTEXT
)


def _changed(call: Call, **registers: bytes) -> Call:
    assert call.recipient is not None
    pcrs = {**call.recipient.pcrs, **{int(name[3:]): value for name, value in registers.items()}}
    return replace(call, recipient=replace(call.recipient, pcrs=pcrs))


GOOD_CALL = CALLS["good"]
BAD_CALLS: dict[str, Call] = {
    **{name: CALLS[name] for name in BAD},
    "expired": replace(GOOD_CALL, at=EXPIRES),
    "early": replace(GOOD_CALL, at=BEGINS - timedelta(seconds=1)),
    "revoked": _changed(GOOD_CALL, PCR8=REVOKED[8]),
    "other-file": replace(GOOD_CALL, context={**CONTEXT, "file": "2233"}),
    "other-attested-data-key": replace(
        _changed(GOOD_CALL, PCR0=B[0], PCR1=B[1], PCR2=B[2]), action="GenerateDataKeyPair"
    ),
}
# What nobody can see in the text: whose role is the owner's, which registers were built, when a release ends.
TELLING = {
    *("parent-plain", "unlocked-16", "debug", "dev-iam", "tpm-recipient", "reencrypt-out", "grant"),
    *("genkey-plain", "admin-decrypt-plain", "other-attested-data-key"),
}

PRINCIPALS: list[Any] = [
    "*",
    {"AWS": "*"},
    {"AWS": ADMIN},
    {"AWS": DEV},
    {"AWS": PARENT},
    {"AWS": STRANGE},
    {"AWS": f"arn:aws:iam::{OWNER}:root"},
    {"AWS": OPERATOR},
    {"AWS": [PARENT, DEV]},
    {"AWS": [ADMIN, PARENT]},
    {"Service": "lambda.amazonaws.com"},
    {"AWS": f"arn:aws:sts::{OPERATOR}:assumed-role/EnclaveParent/i-1"},
]
ACTIONS = [
    "kms:*",
    "kms:Decrypt",
    "kms:GenerateDataKey*",
    "kms:GenerateDataKeyPair",
    "kms:DeriveSharedSecret",
    "kms:Create*",
    "kms:ReEncrypt*",
    "kms:ReEncryptFrom",
    "kms:PutKeyPolicy",
    "kms:Put*",
    "kms:Encrypt",
    "*",
    "kms:D*",
    "kms:?ecrypt",
    "KMS:DECRYPT",
    "kms:GenerateRandom",
]
OPERATORS = [
    prefix + name + suffix
    for name in operator_names()
    for prefix in ("", "", "", "ForAllValues:", "ForAnyValue:")
    for suffix in ("", "", "IfExists")
]
RA = "kms:RecipientAttestation:"
KEYS = [
    *(f"{RA}PCR{index}" for index in (0, 1, 2, 3, 4, 8, 16, 17, 32)),
    f"{RA}ImageSha384",
    f"{RA}NitroTPMPCR0",
    "kms:RecipientAttestation",
    f"{RA.upper()}PCR1",
    "kms:EncryptionContext:model",
    "kms:EncryptionContext:file",
    "kms:EncryptionContextKeys",
    "aws:CurrentTime",
    "aws:PrincipalArn",
    "kms:CallerAccount",
    "kms:ViaService",
]
VALUES: list[Any] = [
    "0" * 96,
    B[0].hex(),
    B[2].hex(),
    B[16].hex(),
    HOST[3].hex(),
    HOST[8].hex(),
    A[0].hex(),
    A[16].hex(),
    A[0].hex().upper(),
    "0x" + A[0].hex(),
    "*",
    "?" * 96,
    A[0].hex()[:95] + "*",
    f"${{{RA}PCR0}}",
    f"${{{RA}PCR16}}",
    "${kms:EncryptionContext:model}",
    "${kms:EncryptionContext:file}",
    "true",
    "false",
    True,
    False,
    1,
    "demo-lesion",
    "0011",
    "2233",
    "other",
    "2099-01-01T00:00:00Z",
    "2000-01-01",
    "4102444800",
    OPERATOR,
    PARENT,
]
RESOURCES: list[Any] = [
    "*",
    KEY,
    f"{KEY[:-3]}*",
    "arn:aws:kms:*:*:alias/x",
    f"arn:aws:kms:*:{OWNER}:key/other",
]

Json = dict[str, Any]


def _pick(value: Json, random: Random) -> Json:
    picked: Json = random.choice(value["Statement"])
    return picked


def _drop_statement(value: Json, random: Random) -> None:
    if len(value["Statement"]) > 1:
        value["Statement"].remove(_pick(value, random))


def _flip_effect(value: Json, random: Random) -> None:
    statement = _pick(value, random)
    statement["Effect"] = "Deny" if statement["Effect"] == "Allow" else "Allow"


def _principal(value: Json, random: Random) -> None:
    statement = _pick(value, random)
    statement.pop("NotPrincipal", None)
    statement["Principal"] = random.choice(PRINCIPALS)


def _actions(value: Json, random: Random) -> None:
    statement = _pick(value, random)
    old = statement.get("Action", [])
    kept = [one for one in (old if isinstance(old, list) else [old]) if random.random() < 0.8]
    statement.pop("NotAction", None)
    statement["Action"] = [*kept, *random.sample(ACTIONS, random.randrange(1, 3))]


def _negate(value: Json, random: Random) -> None:
    statement = _pick(value, random)
    name = random.choice(["Principal", "Action", "Resource"])
    if name in statement:
        statement[f"Not{name}"] = statement.pop(name)


def _drop_member(value: Json, random: Random) -> None:
    statement = _pick(value, random)
    statement.pop(random.choice(["Action", "Resource", "Condition", "Sid"]), None)


def _resource(value: Json, random: Random) -> None:
    statement = _pick(value, random)
    statement.pop("NotResource", None)
    statement["Resource"] = random.choice(RESOURCES)


def _conditioned(value: Json, random: Random) -> tuple[Json, str, str] | None:
    """A Condition with an operator and a key in it."""
    found = [one["Condition"] for one in value["Statement"] if one.get("Condition")]
    if not found:
        return None
    condition = random.choice(found)
    operator = random.choice(list(condition))
    return condition, operator, random.choice(list(condition[operator]))


def _edit_condition(edit: Callable[[Json, str, str, Random], None]) -> Callable[[Json, Random], None]:
    def edited(value: Json, random: Random) -> None:
        found = _conditioned(value, random)
        if found is not None:
            condition, operator, key = found
            edit(condition, operator, key, random)
            for name in [name for name, keys in condition.items() if not keys]:
                del condition[name]

    return edited


def _drop_key(condition: Json, operator: str, key: str, random: Random) -> None:
    del condition[operator][key]


def _rename_key(condition: Json, operator: str, key: str, random: Random) -> None:
    condition[operator][random.choice(KEYS)] = condition[operator].pop(key)


def _move_key(condition: Json, operator: str, key: str, random: Random) -> None:
    condition.setdefault(random.choice(OPERATORS), {})[key] = condition[operator].pop(key)


def _rename_operator(condition: Json, operator: str, key: str, random: Random) -> None:
    keys = condition.pop(operator)
    condition.setdefault(random.choice(OPERATORS), {}).update(keys)


def _new_value(condition: Json, operator: str, key: str, random: Random) -> None:
    condition[operator][key] = random.choice(VALUES)


def _more_values(condition: Json, operator: str, key: str, random: Random) -> None:
    old = condition[operator][key]
    condition[operator][key] = [*(old if isinstance(old, list) else [old]), random.choice(VALUES)]


def _add_key(condition: Json, operator: str, key: str, random: Random) -> None:
    condition.setdefault(random.choice(OPERATORS), {})[random.choice(KEYS)] = random.choice(VALUES)


def _add_statement(value: Json, random: Random) -> None:
    statement = copy.deepcopy(_pick(value, random))
    statement["Sid"] = f"Added{len(value['Statement'])}"
    value["Statement"].append(statement)


MUTATIONS: list[Callable[[Json, Random], None]] = [
    _drop_statement,
    _flip_effect,
    _principal,
    _actions,
    _negate,
    _drop_member,
    _resource,
    _add_statement,
    *map(
        _edit_condition,
        (_drop_key, _rename_key, _move_key, _rename_operator, _new_value, _more_values, _add_key),
    ),
]


def _mutant(random: Random) -> KeyPolicy | None:
    """A changed policy, or None if no reader takes it."""
    value = json.loads(compile_key_policy(REQUEST).to_bytes())
    for _ in range(random.choice((1, 1, 2, 2, 3, 4, 6))):
        random.choice(MUTATIONS)(value, random)
    try:
        return parse_key_policy(json.dumps(value).encode(), source="mutant")
    except KeyPolicyError:
        return None


def _bad(policy: KeyPolicy) -> set[str]:
    return {name for name, call in BAD_CALLS.items() if evaluate(policy, call).allowed}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_lint_finds_every_change_that_lets_a_bad_call_through(seed: int) -> None:
    random = Random(seed)
    harmful = 0
    for _ in range(ROUNDS):
        policy = _mutant(random)
        bad = set() if policy is None else _bad(policy)
        if policy is not None and bad:
            harmful += 1
            text = policy.to_bytes().decode()
            assert not is_clean(lint(policy, FACTS)), f"{sorted(bad)} pass:\n{text}"
            if bad & TELLING:
                assert not is_clean(lint(policy)), f"{sorted(bad)} pass, told by the text alone:\n{text}"
    assert harmful > ROUNDS // 20, "the changes are too harmless to say anything"


def test_the_fixed_texts_lead_from_every_change_to_a_clean_policy_that_lets_no_bad_call_through() -> None:
    random = Random(SEEDS)
    for _ in range(ROUNDS):
        policy = _mutant(random)
        if policy is None:
            continue
        changed = policy.to_bytes().decode()
        fixed = fix(policy, FACTS)
        assert is_clean(lint(fixed, FACTS)), f"this policy is not fixed:\n{changed}"
        assert _bad(fixed) == set(), changed


def test_the_compiled_policy_itself_lets_no_bad_call_through_and_is_clean() -> None:
    policy = parse_key_policy(compile_key_policy(REQUEST).to_bytes(), source="compiled")
    assert _bad(policy) == set()
    assert evaluate(policy, GOOD_CALL).allowed
    assert [one for one in lint(policy, FACTS) if one.rule != "K40"] == []
    assert [one for one in lint(policy) if one.rule != "K40"] == []
