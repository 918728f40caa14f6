"""Rules that need more than the text, and the readers of what the aws command prints."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from enclavectl.attestation.registers import role_register
from enclavectl.kms import (
    KeyMetadata,
    KeyPolicyError,
    KeyPolicyRequest,
    LintFacts,
    compile_key_policy,
    is_clean,
    lint,
)
from enclavectl.kms.facts import parse_grants, parse_key_metadata
from enclavectl.kms.fixes import apply_fix
from enclavectl.kms.key_policy import KeyPolicy
from enclavectl.kms.reader import MAX_READABLE_BYTES, parse_key_policy
from tests.kms.situations import (
    ADM,
    ADMIN,
    CONTEXT,
    CTX,
    ENC,
    EXPIRES,
    FACTS,
    HOST,
    KEY,
    NEVER,
    NOW,
    NULL_0,
    OPERATOR,
    OWNER,
    PARENT,
    PCRS_A,
    REL_A,
    REL_B,
    RELEASE_A,
    RELEASE_B,
    A,
    B,
    allow,
    deny,
    key_policy,
    ra,
    release,
    surprises,
)

METADATA = {
    "Arn": KEY, "AWSAccountId": OWNER, "Enabled": True, "MultiRegion": False, "Origin": "AWS_KMS",
    "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": "Enabled",
}  # fmt: skip
COMPILED = compile_key_policy(
    KeyPolicyRequest(releases=(RELEASE_A,), admin=ADMIN, parents=(PARENT,), context=CONTEXT)
)


def metadata(**edits: object) -> KeyMetadata:
    return parse_key_metadata(json.dumps({"KeyMetadata": {**METADATA, **edits}}).encode(), source="key")


def rules(policy: KeyPolicy, facts: LintFacts = FACTS) -> set[str]:
    return {one.rule for one in lint(policy, facts) if one.rule != "K40"}


def reason(rule: str, policy: KeyPolicy, facts: LintFacts = FACTS) -> str:
    (found,) = [one for one in lint(policy, facts) if one.rule == rule]
    return found.reason


def with_statements(*more: dict[str, Any]) -> KeyPolicy:
    return key_policy([ADM, ENC, *more])


def test_a_compiled_policy_follows_its_policy() -> None:
    assert rules(COMPILED, replace(FACTS, key=metadata(), grants=(), key_id=KEY, built=A)) == set()


def test_k31_names_a_release_that_the_policy_has_no_more() -> None:
    facts = replace(FACTS, releases=(RELEASE_B,))
    assert "no release of the policy has these registers" in reason("K31", COMPILED, facts)
    fixed = apply_fix(COMPILED, next(one for one in lint(COMPILED, facts) if one.rule == "K31"))
    assert is_clean(lint(fixed, facts))


def test_k31_names_a_release_that_is_over() -> None:
    assert "it ended at 2027-01-31T00:00:00Z" in reason("K31", COMPILED, LintFacts(at=EXPIRES))
    assert rules(COMPILED, LintFacts(at=EXPIRES - timedelta(seconds=1))) == set()


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({}, "never ends"),
        ({"DateLessThan": {"aws:CurrentTime": "2028-01-31"}}, "ends at 2028-01-31T00:00:00Z"),
        ({"DateLessThanEquals": {"aws:CurrentTime": "2027-01-31"}}, "ends at 2027-01-31T00:00:01Z"),
        ({"DateLessThan": {"aws:CurrentTime": ["2027-01-31", "2028-01-31"]}}, "2028"),
        ({"DateGreaterThan": {"aws:CurrentTime": "2027-01-31"}}, "never ends"),
    ],
)
def test_k31_names_a_statement_that_outlives_its_release(conditions: dict[str, Any], said: str) -> None:
    policy = with_statements(release(StringEqualsIgnoreCase=PCRS_A, StringEquals=CTX, **conditions))
    found = reason("K31", policy)
    assert said in found
    assert "release A expires at 2027-01-31T00:00:00Z" in found


def test_k31_names_a_statement_that_begins_before_its_release() -> None:
    facts = replace(FACTS, releases=(replace(RELEASE_A, expires=None, not_before=NOW),))
    assert "has no beginning; release A is valid from 2026-05-04T12:00:00Z" in reason("K31", COMPILED, facts)


def test_k31_names_a_tuple_that_no_build_has() -> None:
    mixed = with_statements(release(StringEqualsIgnoreCase=ra({**A, 2: B[2]}), StringEquals=CTX))
    assert "PCR0 is the lock's, PCR2 is not" in reason("K31", mixed, LintFacts(built=A))
    assert rules(with_statements(REL_B), LintFacts(built=A)) == set(), "another build's"


def test_k31_asks_for_a_deny_of_what_is_revoked_in_part() -> None:
    facts = replace(FACTS, revoked=({8: HOST[8]},))
    finding = next(one for one in lint(COMPILED, facts) if one.rule == "K31")
    assert is_clean(lint(apply_fix(COMPILED, finding), facts))


def test_k32_a_key_in_the_operators_account_is_the_operators() -> None:
    facts = replace(FACTS, key=metadata(AWSAccountId=OPERATOR, Arn=KEY.replace(OWNER, OPERATOR)))
    assert OPERATOR in reason("K32", COMPILED, facts)


def test_k33_grants_are_ways_around() -> None:
    facts = replace(FACTS, grants=parse_grants(b'{"Grants": [{"GrantId": "g1"}]}', source="grants"))
    assert "grants: 1, the first g1" in reason("K33", COMPILED, facts)
    without_never = with_statements(REL_A)
    finding = next(one for one in lint(without_never, facts) if one.rule == "K33")
    assert surprises(apply_fix(without_never, finding)) == set()


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"MultiRegion": True}, "multi-Region"),
        ({"Origin": "EXTERNAL"}, "imported"),
        ({"Origin": "AWS_CLOUDHSM", "CustomKeyStoreId": "cks-1"}, "custom key store"),
        ({"Origin": "EXTERNAL_KEY_STORE"}, "custom key store"),
        ({"KeySpec": "RSA_2048"}, "RSA_2048"),
        ({"KeyUsage": "SIGN_VERIFY"}, "SIGN_VERIFY"),
        ({"Enabled": False}, "disabled"),
    ],
)
def test_k34_names_keys_that_a_policy_does_not_protect_whole(edits: dict[str, Any], said: str) -> None:
    assert said in reason("K34", COMPILED, replace(FACTS, key=metadata(**edits)))


def test_k35_an_alias_can_be_moved() -> None:
    assert "alias/weights" in reason("K35", COMPILED, replace(FACTS, key_id="alias/weights"))
    resource = {**REL_A, "Resource": f"arn:aws:kms:eu-central-1:{OWNER}:alias/weights"}
    named = with_statements(
        {**resource, "Condition": {**REL_A["Condition"], "StringLike": {"kms:RequestAlias": "a*"}}}
    )
    assert rules(named, LintFacts()) == {"K35"}
    finding = next(one for one in lint(named) if one.rule == "K35")
    assert rules(apply_fix(named, finding), LintFacts()) == set()


def test_k36_a_unique_id_is_a_role_that_is_gone() -> None:
    policy = with_statements({**REL_A, "Principal": {"AWS": ["AROAEXAMPLEEXAMPLE1", PARENT]}})
    finding = next(one for one in lint(policy) if one.rule == "K36")
    assert rules(apply_fix(policy, finding), LintFacts()) == set()
    alone = with_statements({**REL_A, "Principal": {"AWS": "AROAEXAMPLEEXAMPLE1"}})
    assert "K36" in rules(alone, LintFacts())


def test_k37_a_text_that_put_key_policy_refuses() -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": [ADM, ENC, REL_A]}).ljust(32 * 1024 + 1)
    long = parse_key_policy(text.encode(), source="long", limit=MAX_READABLE_BYTES)
    assert "32769 bytes" in reason("K37", long, LintFacts())
    foreign = with_statements({**REL_A, "Sid": "Größe\u2026"})
    assert "Latin-1" in reason("K37", foreign, LintFacts())
    assert rules(with_statements({**REL_A, "Sid": "Größe"}), LintFacts()) == set()


def test_k38_a_guard_names_every_releasing_call() -> None:
    narrow = with_statements(REL_A, deny("Guard", "kms:Decrypt", Null=NULL_0))
    assert "GenerateDataKey, GenerateDataKeyPair, DeriveSharedSecret" in reason("K38", narrow, LintFacts())
    others = ["kms:GenerateDataKey*", "kms:DeriveSharedSecret"]
    both = with_statements(
        REL_A, deny("Guard", "kms:Decrypt", Null=NULL_0), deny("Guard2", others, Null=NULL_0)
    )
    assert rules(both, LintFacts()) == set()


@pytest.mark.parametrize(
    "edit",
    [
        {"Principal": {"Service": "lambda.amazonaws.com"}},
        {"Principal": {"Federated": "accounts.google.com"}},
        {"Condition": {**REL_A["Condition"], "StringLike": {"kms:ViaService": "s3.*.amazonaws.com"}}},
        {"Condition": {**REL_A["Condition"], "StringLike": {"kms:CallerAccount": OPERATOR}}},
    ],
    ids=str,
)
def test_k39_a_service_decrypts_for_the_parent(edit: dict[str, Any]) -> None:
    policy = with_statements({**REL_A, **edit})
    assert rules(policy, LintFacts()) == {"K39"}


def test_k40_says_what_pcr3_of_the_parents_role_is() -> None:
    (found,) = [one for one in lint(COMPILED) if one.rule == "K40"]
    assert role_register(PARENT).hex() in found.advice
    held = with_statements(release(StringEqualsIgnoreCase=ra({**A, 3: HOST[3]}), StringEquals=CTX))
    assert lint(held) == ()


def test_k29_and_k20_know_the_owner_and_the_operator_where_they_are_told() -> None:
    other = f"arn:aws:iam::{OWNER}:role/Other"
    policy = key_policy([{**ADM, "Principal": {"AWS": other}}, ENC, REL_A])
    assert rules(policy, LintFacts()) == set(), "the text alone does not say who owns the key"
    assert rules(policy, LintFacts(admin=ADMIN)) == {"K29"}
    strange = with_statements({**REL_A, "Principal": {"AWS": f"arn:aws:iam::{OPERATOR}:role/Strange"}})
    assert rules(strange, LintFacts(parents=(PARENT,))) == {"K20"}


def test_an_administrator_that_is_the_parent_too_is_found() -> None:
    policy = with_statements({**REL_A, "Principal": {"AWS": [PARENT, ADMIN]}})
    assert rules(policy, LintFacts()) == {"K28"}


def test_k07_two_values_in_a_deny_mix_releases_as_well() -> None:
    def guards(values: dict[int, list[str]]) -> KeyPolicy:
        plain = release(StringEquals=CTX)
        return with_statements(
            plain,
            *(
                deny(f"G{index}", "kms:Decrypt", StringNotEqualsIgnoreCase=ra({index: found}))
                for index, found in values.items()
            ),
        )

    one = {index: [value.hex()] for index, value in A.items()}
    both = {index: [value.hex(), B[index].hex()] for index, value in A.items()}
    assert rules(guards(one), LintFacts()) == set()
    assert rules(guards({**one, 8: [HOST[8].hex(), B[0].hex()]}), LintFacts()) == set(), "two signers"
    assert rules(guards(both), LintFacts()) == {"K07"}
    assert "mixed-releases" in surprises(guards(both))


def test_a_guard_takes_the_place_of_what_an_allow_leaves_out() -> None:
    plain = allow("R", PARENT, "kms:Re*")
    assert "K16" in rules(with_statements(REL_A, plain), LintFacts())
    assert rules(with_statements(REL_A, plain, NEVER), LintFacts()) == set()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"KeyMetadata": {}}',
        '{"KeyMetadata": {"Arn": 1}}',
        '{"Grants": [{}]}',
        '{"Grants": 1}',
    ],
)
def test_what_aws_does_not_print_is_refused_with_the_command_that_prints_it(text: str) -> None:
    with pytest.raises(KeyPolicyError, match="describe-key") as caught:
        parse_key_metadata(text.encode(), source="f")
    assert caught.value.code == "key-metadata"
    with pytest.raises(KeyPolicyError, match="list-grants") as caught:
        parse_grants(text.encode(), source="f")
    assert caught.value.code == "grants"
