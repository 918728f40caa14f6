"""The evaluator against the rules that AWS documents for conditions, principals and accounts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from enclavectl.errors import UsageError
from enclavectl.kms.actions import like, named_by
from enclavectl.kms.evaluate import Call, Recipient, evaluate
from enclavectl.kms.key_policy import KeyPolicy
from enclavectl.kms.operators import holds, parse_operator, to_time
from enclavectl.kms.principals import parse_caller
from tests.kms.situations import (
    ADM,
    ADMIN,
    CALLS,
    CTX,
    DEV,
    ENC,
    EXPIRES,
    GUARD,
    KEY,
    OPERATOR,
    OWNER,
    PARENT,
    PCRS_A,
    REL_A,
    REL_B,
    A,
    allow,
    deny,
    key_policy,
    release,
)

GOOD = CALLS["good"]


def allows(policy: KeyPolicy, call: Call) -> bool:
    return evaluate(policy, call).allowed


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("*", "", True),
        ("a*", "a", True),
        ("a*c", "abbc", True),
        ("a*c", "abbd", False),
        ("?", "", False),
        ("a?c", "abc", True),
        ("*a*b*", "xxaxxbxx", True),
        ("**", "x", True),
        ("", "", True),
        ("", "x", False),
        ("a.c", "abc", False),
        ("*" * 50 + "b", "a" * 5000, False),
        ("*a" * 30 + "b", "a" * 5000, False),
    ],
)
def test_a_star_is_any_text_and_a_question_mark_any_character(
    pattern: str, text: str, expected: bool
) -> None:
    assert like(pattern, text) is expected


def test_actions_are_named_in_any_case_and_by_patterns() -> None:
    assert named_by(("kms:decrypt", "KMS:Re?ncrypt*")) == {"Decrypt", "ReEncryptFrom", "ReEncryptTo"}
    assert named_by(("s3:*",)) == frozenset()
    assert {"PutKeyPolicy", "Decapsulate"} <= named_by(("*",))


# From the table of operators: what each says of an absent key, of a value, and of another value.
@pytest.mark.parametrize(
    ("operator", "absent", "same", "other"),
    [
        ("StringEquals", False, True, False),
        ("StringNotEquals", True, False, True),
        ("StringEqualsIfExists", True, True, False),
        ("StringNotEqualsIfExists", True, False, True),
        ("ForAllValues:StringEquals", True, True, False),
        ("ForAnyValue:StringEquals", False, True, False),
        ("ForAnyValue:StringEqualsIfExists", False, True, False),
        ("ForAllValues:StringNotEquals", True, False, True),
        ("ForAnyValue:StringNotEquals", False, False, True),
        ("StringLike", False, True, False),
        ("StringNotLike", True, False, True),
        ("BinaryEquals", False, True, False),
        ("Bool", False, False, False),
        ("NumericEquals", False, False, False),
        ("DateNotEquals", True, False, False),
    ],
)
def test_an_operator_knows_absent_keys_as_aws_documents_it(
    operator: str, absent: bool, same: bool, other: bool
) -> None:
    parsed = parse_operator(operator)
    assert holds(parsed, ["value"], None) is absent
    assert holds(parsed, ["value"], ["value"]) is same
    assert holds(parsed, ["value"], ["another"]) is other


@pytest.mark.parametrize(
    ("operator", "expected", "found", "result"),
    [
        ("StringEquals", "abc", "ABC", False),
        ("StringEqualsIgnoreCase", "abc", "ABC", True),
        ("StringEquals", "a*", "abc", False),
        ("NumericLessThan", "10", "9", True),
        ("NumericLessThan", "10", "10", False),
        ("NumericGreaterThanEquals", "10", "10.0", True),
        ("NumericEquals", "nan", "nan", False),
        ("DateLessThan", "2027-01-31T00:00:00Z", "2027-01-30T23:59:59Z", True),
        ("DateLessThan", "2027-01-31T00:00:00Z", "2027-01-31T00:00:00Z", False),
        ("DateGreaterThanEquals", "2027-01-31", "2027-01-31T00:00:00Z", True),
        ("DateGreaterThan", "1801353600", "2027-01-31T00:00:00Z", False),
        ("DateLessThan", "soon", "2027-01-31T00:00:00Z", False),
        ("IpAddress", "192.0.2.0/24", "192.0.2.7", True),
        ("NotIpAddress", "192.0.2.0/24", "192.0.2.7", False),
        ("IpAddress", "192.0.2.0/24", "2001:db8::1", False),
        ("ArnLike", "arn:aws:iam::*:role/*", PARENT, True),
        ("ArnEquals", "arn:aws:iam:*", PARENT, False),
        ("Null", "true", "x", False),
        ("Null", "false", "x", True),
    ],
)
def test_an_operator_compares_as_its_type_does(
    operator: str, expected: str, found: str, result: bool
) -> None:
    assert holds(parse_operator(operator), [expected], [found]) is result


def test_values_of_a_multivalued_key_need_all_or_any() -> None:
    values = ["model", "file"]
    assert holds(parse_operator("ForAllValues:StringEquals"), ["model", "file", "x"], values)
    assert not holds(parse_operator("ForAllValues:StringEquals"), ["model"], values)
    assert holds(parse_operator("ForAnyValue:StringEquals"), ["model"], values)


@pytest.mark.parametrize("text", ["", "x", "0000-00-00", "9" * 30, "2027-13-01", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert to_time(text) is None


def test_a_deny_that_applies_beats_every_allow_and_is_named() -> None:
    verdict = evaluate(key_policy([REL_A, deny("Stop", "kms:Decrypt")]), GOOD)
    assert (verdict.allowed, verdict.statement and verdict.statement.name, verdict.key) == (
        False,
        "Stop",
        None,
    )


def test_the_guard_is_named_with_its_key_for_a_call_without_a_document() -> None:
    verdict = evaluate(key_policy([REL_A, GUARD]), CALLS["parent-plain"])
    assert verdict.statement is not None
    assert (verdict.statement.name, verdict.key) == ("Guard", "kms:RecipientAttestation:PCR0")


def test_the_nearest_allow_and_its_failing_key_are_named() -> None:
    call = CALLS["other-model"]
    verdict = evaluate(key_policy([REL_B, REL_A]), call)
    assert verdict.statement is not None
    assert (verdict.statement.name, verdict.key) == ("ReleaseA", "kms:RecipientAttestation:PCR16")


def test_a_caller_that_no_statement_is_about_gets_no_statement() -> None:
    verdict = evaluate(key_policy([ADM, ENC]), GOOD)
    assert (verdict.allowed, verdict.statement, verdict.key) == (False, None, None)


def test_condition_keys_are_found_in_any_case() -> None:
    upper = {key.upper(): value for key, value in {**PCRS_A, **CTX}.items()}
    assert allows(key_policy([release(StringEqualsIgnoreCase=upper)]), GOOD)


def test_pcr0_has_a_second_name() -> None:
    named = {"kms:RecipientAttestation:ImageSha384": A[0].hex()}
    policy = key_policy([release(StringEquals=named)])
    assert allows(policy, GOOD)
    assert not allows(policy, CALLS["other-enclave"])


def test_a_document_counts_for_the_calls_that_can_carry_one_only() -> None:
    policy = key_policy(
        [allow("E", PARENT, ["kms:Encrypt", "kms:GenerateDataKey"], StringEqualsIgnoreCase=PCRS_A)]
    )
    assert allows(policy, replace(GOOD, action="GenerateDataKey"))
    assert not allows(policy, replace(GOOD, action="Encrypt"))


def test_a_statement_ends_by_itself_at_its_date() -> None:
    end = {"aws:CurrentTime": "2027-01-31T00:00:00Z"}
    policy = key_policy([release(StringEqualsIgnoreCase=PCRS_A, DateLessThan=end)])
    assert allows(policy, replace(GOOD, at=EXPIRES - timedelta(seconds=1)))
    assert not allows(policy, replace(GOOD, at=EXPIRES))


SESSION = f"arn:aws:sts::{OPERATOR}:assumed-role/EnclaveParent/i-0123456789abcdef0"


@pytest.mark.parametrize(
    ("named", "caller", "expected"),
    [
        (PARENT, PARENT, True),
        (PARENT, SESSION, True),
        (SESSION, SESSION, True),
        (SESSION, PARENT, False),
        (SESSION, SESSION[:-1] + "1", False),
        (f"arn:aws:iam::{OPERATOR}:role/path/EnclaveParent", SESSION, True),
        (f"arn:aws:iam::{OPERATOR}:role/path/EnclaveParent", PARENT, False),
        (f"arn:aws:iam::{OWNER}:role/EnclaveParent", SESSION, False),
        (f"arn:aws:iam::{OPERATOR}:user/EnclaveParent", SESSION, False),
        (OPERATOR, SESSION, True),
        (f"arn:aws:iam::{OPERATOR}:root", PARENT, True),
        (OWNER, PARENT, False),
        ("*", PARENT, True),
    ],
)
def test_a_principal_means_its_role_and_its_sessions(named: str, caller: str, expected: bool) -> None:
    call = replace(GOOD, caller=parse_caller(caller))
    assert allows(key_policy([allow("P", named, "kms:Decrypt")]), call) is expected
    refusing = [allow("All", "*", "kms:Decrypt"), {**deny("D", "kms:Decrypt"), "Principal": {"AWS": named}}]
    assert allows(key_policy(refusing), call) is not expected


def test_not_principal_means_everybody_else() -> None:
    value: dict[str, Any] = {**allow("N", "*", "kms:Decrypt"), "NotPrincipal": {"AWS": PARENT}}
    del value["Principal"]
    assert not allows(key_policy([value]), GOOD)
    assert allows(key_policy([value]), replace(GOOD, caller=parse_caller(DEV)))


def test_an_account_leaves_the_decision_to_its_iam_policies() -> None:
    policy = key_policy([allow("Root", f"arn:aws:iam::{OWNER}:root", "kms:*")])
    call = CALLS["dev-iam"]
    assert allows(policy, call)
    refused = evaluate(policy, replace(call, iam_allows=False))
    assert not refused.allowed
    assert "IAM" in refused.reason


def test_a_role_of_the_keys_account_needs_no_iam_policy_and_one_of_another_account_does() -> None:
    policy = key_policy([allow("A", [ADMIN, PARENT], "kms:Decrypt")])
    own = replace(CALLS["admin-decrypt-plain"], iam_allows=False)
    foreign = replace(GOOD, iam_allows=False)
    assert allows(policy, own)
    assert not allows(policy, foreign)
    assert allows(policy, replace(foreign, key=None)), "without the key's ARN the accounts are not known"


def test_kms_takes_no_administration_from_another_account() -> None:
    policy = key_policy([allow("A", [ADMIN, PARENT], "kms:*")])
    assert not allows(policy, replace(GOOD, action="PutKeyPolicy"))
    assert allows(policy, CALLS["admin-put"])


@pytest.mark.parametrize(
    ("member", "resource", "expected"),
    [
        ("Resource", "*", True),
        ("Resource", KEY, True),
        ("Resource", f"{KEY[:-4]}*", True),
        ("Resource", f"{KEY[:-4]}0000", False),
        ("NotResource", KEY, False),
    ],
)
def test_a_resource_is_this_key_or_another(member: str, resource: str, expected: bool) -> None:
    value = {**allow("R", PARENT, "kms:Decrypt"), member: resource}
    if member != "Resource":
        del value["Resource"]
    assert allows(key_policy([value]), GOOD) is expected


def test_a_variable_becomes_the_calls_value_and_one_without_a_value_equals_nothing() -> None:
    role = {"aws:PrincipalArn": "${aws:PrincipalArn}"}
    assert allows(key_policy([release(StringEquals=role)]), GOOD)
    absent = {"aws:PrincipalArn": "${aws:username}"}
    assert not allows(key_policy([release(StringEquals=absent)]), GOOD)
    open_ended = {"aws:PrincipalArn": "${aws:PrincipalArn"}
    assert not allows(key_policy([release(StringEquals=open_ended)]), GOOD)


def test_a_document_of_an_instance_is_no_document_of_an_enclave() -> None:
    policy = key_policy(
        [release(StringEqualsIgnoreCase={"kms:RecipientAttestation:NitroTPMPCR0": A[0].hex()})]
    )
    assert not allows(policy, GOOD)
    assert allows(policy, replace(GOOD, recipient=Recipient(pcrs=A, nitrotpm=True)))


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "*",
        OPERATOR,
        f"arn:aws:iam::{OPERATOR}:root",
        "arn:aws:iam::1:role/x",
        f"{PARENT} ",
        f"{PARENT}\n",
    ],
)
def test_a_caller_is_a_role_a_session_or_a_user(arn: str) -> None:
    with pytest.raises(UsageError, match="the ARN of a role or a user"):
        parse_caller(arn)
