"""The reader takes what PutKeyPolicy takes in one meaning, and refuses the rest with one exception."""

from __future__ import annotations

import json
from typing import Any

import pytest

from enclavectl.kms.key_policy import MAX_KEY_POLICY_BYTES, KeyPolicyError
from enclavectl.kms.reader import parse_key_policy
from tests.kms.situations import ADM, ENC, GUARD, KEY, PARENT, REL_A

WHOLE = json.dumps({"Version": "2012-10-17", "Id": "key", "Statement": [ADM, ENC, REL_A, GUARD]}).encode()


def read(value: object) -> Any:
    return parse_key_policy(json.dumps(value).encode(), source="key.json")


def statement(**members: object) -> dict[str, object]:
    found = {"Effect": "Allow", "Principal": {"AWS": PARENT}, "Action": "kms:Decrypt", "Resource": "*"}
    return {name: value for name, value in {**found, **members}.items() if value is not None}


def test_a_policy_that_was_read_writes_itself_back() -> None:
    found = parse_key_policy(WHOLE, source="key.json")
    assert [one.name for one in found.statements] == ["OwnerAdmin", "OwnerSeals", "ReleaseA", "Guard"]
    assert json.loads(found.to_bytes())["Statement"][:3] == [ADM, ENC, REL_A]
    again = parse_key_policy(found.to_bytes(), source="again")
    assert (again.statements, again.version, again.identifier) == (found.statements, "2012-10-17", "key")
    assert again.to_bytes() == found.to_bytes()


def test_every_beginning_of_a_policy_and_every_byte_after_it_are_refused() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(KeyPolicyError):
            parse_key_policy(WHOLE[:length], source="key.json")
    for more in (b"x", b"{}", b"\0", b","):
        with pytest.raises(KeyPolicyError):
            parse_key_policy(WHOLE + more, source="key.json")
    assert parse_key_policy(b" \n" + WHOLE + b"\r\n\t", source="key.json").statements


def test_a_policy_that_says_the_same_in_the_short_forms_reads_the_same() -> None:
    short = read({"Statement": statement(Principal="*")})
    long = read({"Statement": [statement(Principal={"AWS": ["*"]}, Action=["kms:Decrypt"], Resource=["*"])]})
    assert short.statements == long.statements
    assert short.version == "2008-10-17", "the grammar's default"


def test_numbers_and_truths_are_values_as_aws_compares_them() -> None:
    condition = {"Bool": {"aws:SecureTransport": True}, "NumericLessThan": {"kms:X": [1, "2"]}}
    found = read({"Statement": [statement(Condition=condition)]}).statements[0].conditions
    assert [one.values for one in found] == [("true",), ("1", "2")]


@pytest.mark.parametrize("member", ["Resource", "Action"])
def test_a_statement_that_does_nothing_can_be_read_and_has_no_effect(member: str) -> None:
    found = read({"Statement": [statement(**{member: None})]}).statements[0]
    assert not found.has_effect
    assert not found.covers("Decrypt") or member == "Resource"


@pytest.mark.parametrize(
    ("code", "text", "message"),
    [
        ("key-policy-json", "", "not JSON"),
        ("key-policy-json", '{"Statement": [], "Statement": []}', "twice"),
        ("key-policy-json", "[" * 100 + "]" * 100, "nested"),
        ("key-policy-json", '{"Statement": NaN}', "NaN"),
        ("key-policy-json", '\ufeff{"Statement": []}', "JSON"),
        ("key-policy-form", "[]", "an object"),
        ("key-policy-form", '{"Version": "2012-10-17"}', "Statement"),
        ("key-policy-form", '{"Statement": []}', "found 0"),
        ("key-policy-form", '{"Statement": 3}', "an object"),
        ("key-policy-form", '{"statement": {}}', "Statement"),
    ],
    ids=range(10),
)
def test_what_is_no_policy_has_a_code_and_says_what_was_expected(code: str, text: str, message: str) -> None:
    with pytest.raises(KeyPolicyError, match=message) as caught:
        parse_key_policy(text.encode(), source="key.json")
    assert caught.value.code == code
    assert caught.value.message.startswith("key.json: expected a key policy: ")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "members",
    [
        {"Effect": "allow"},
        {"Effect": None},
        {"Principal": None},
        {"Principal": PARENT},
        {"Principal": {}},
        {"Principal": {"aws": PARENT}},
        {"Principal": {"AWS": []}},
        {"Principal": {"AWS": [1]}},
        {"NotPrincipal": {"AWS": PARENT}},
        {"Action": ""},
        {"Action": []},
        {"Action": {}},
        {"NotAction": "kms:*"},
        {"NotResource": KEY},
        {"Sid": 1},
        {"Comment": "no such member"},
        {"Condition": []},
        {"Condition": {"StringEquals": {}}},
        {"Condition": {"StringEquals": {"a": []}}},
        {"Condition": {"StringEquals": {"a": None}}},
        {"Condition": {"StringEquals": {"a": 1.5}}},
        {"Condition": {"StringEquals": {"a": "x", "A": "y"}}},
        {"Condition": {"StringEqual": {"a": "x"}}},
        {"Condition": {"stringequals": {"a": "x"}}},
        {"Condition": {"Null": {"a": "*"}}},
        {"Condition": {"Bool": {"a": "yes"}}},
        {"Condition": {"DateLessThan": {"aws:CurrentTime": "${kms:EncryptionContext:file}"}}},
        {"Condition": {"NumericEquals": {"a": "nan"}}},
        {"Condition": {"DateLessThan": {"a": ["2027-01-31", "soon"]}}},
        {"Condition": {"NotIpAddress": {"a": "localhost"}}},
        {"Condition": {"ArnNotLike": {"a": "*"}}},
        {"Condition": {"NullIfExists": {"a": "true"}}},
        {"Condition": {"ForAnyValue:Null": {"a": "true"}}},
        {"Condition": {"ForAllValues:ForAnyValue:StringEquals": {"a": "x"}}},
    ],
    ids=str,
)
def test_a_statement_that_could_mean_two_things_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(KeyPolicyError, match="Statement") as caught:
        read({"Version": "2012-10-17", "Statement": [statement(**members)]})
    assert caught.value.code == "key-policy-form"


def test_an_operator_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(KeyPolicyError, match="nearest known one is 'StringEqualsIgnoreCase'"):
        read({"Statement": [statement(Condition={"StringEqualIgnoreCase": {"a": "x"}})]})


def test_two_statements_of_one_sid_are_refused() -> None:
    with pytest.raises(KeyPolicyError, match="different Sids"):
        read({"Statement": [statement(Sid="A"), statement(Sid="A")]})


def test_a_policy_longer_than_kms_takes_is_refused_and_one_of_that_length_is_read() -> None:
    short = json.dumps({"Statement": [statement()]}).encode()
    full = short.ljust(MAX_KEY_POLICY_BYTES)
    assert parse_key_policy(full, source="key.json").size == MAX_KEY_POLICY_BYTES
    with pytest.raises(KeyPolicyError) as caught:
        parse_key_policy(full + b" ", source="key.json")
    assert caught.value.code == "key-policy-size"
    assert parse_key_policy(full + b" ", source="key.json", limit=MAX_KEY_POLICY_BYTES + 1)


def test_more_statements_than_a_policy_has_room_for_are_refused() -> None:
    many = [{"Effect": "Deny", "Principal": "*"}] * 513
    with pytest.raises(KeyPolicyError, match="1 to 512"):
        parse_key_policy(json.dumps({"Statement": many}).encode(), source="key.json", limit=1 << 20)
