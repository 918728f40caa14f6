"""The compiler: what it writes, what it refuses, and that the same request gives the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.attestation import Policy, Release, Revocation, Trust
from enclavectl.errors import UsageError
from enclavectl.kms import (
    KeyPolicyError,
    KeyPolicyRequest,
    KeyRelease,
    LintFacts,
    Recipient,
    compile_key_policy,
    evaluate,
    is_clean,
    key_releases,
    lint,
    parse_key_policy,
    partly_revoked,
    request_from_policy,
)
from enclavectl.kms.compile import operator_policy, put_commands
from tests.kms.situations import (
    ADMIN,
    CALLS,
    CONTEXT,
    EXPIRES,
    HOST,
    KEY,
    NOW,
    PARENT,
    RELEASE_A,
    RELEASE_B,
    A,
    B,
    let_through,
    register,
    surprises,
)

REQUEST = KeyPolicyRequest(releases=(RELEASE_A,), admin=ADMIN, parents=(PARENT,), context=CONTEXT)
NITRO = frozenset({Trust.NITRO})
POLICY = Policy(accept=NITRO, releases=(Release(name="A", pcrs=A, expires=EXPIRES),))
WHO: dict[str, Any] = {"admin": ADMIN, "parents": (PARENT,), "context": CONTEXT}


def statements(request: KeyPolicyRequest) -> list[dict[str, Any]]:
    value: dict[str, Any] = json.loads(compile_key_policy(request).to_bytes())
    found: list[dict[str, Any]] = value["Statement"]
    return found


def test_the_compiled_policy_decides_every_call_right() -> None:
    assert surprises(compile_key_policy(REQUEST)) == set()


def test_the_bytes_that_are_written_are_the_policy_that_was_judged() -> None:
    compiled = compile_key_policy(REQUEST)
    again = parse_key_policy(compiled.to_bytes(), source="again")
    assert again.statements == compiled.statements
    assert surprises(again) == set()


def test_the_bytes_are_known() -> None:
    """Another version of the compiler that writes anything else has to say so here."""
    data = compile_key_policy(REQUEST).to_bytes()
    assert (
        hashlib.sha256(data).hexdigest() == "11c145caaa2e717c5b731ed67935c7a5002551921cfc3c3b45a10506ec08d740"
    )


def test_the_order_of_releases_and_of_context_changes_no_byte() -> None:
    both = replace(REQUEST, releases=(RELEASE_A, RELEASE_B))
    turned = replace(both, releases=(RELEASE_B, RELEASE_A), context=dict(reversed(list(CONTEXT.items()))))
    assert compile_key_policy(both).to_bytes() == compile_key_policy(turned).to_bytes()


def test_a_release_has_one_statement_with_each_register_and_its_life() -> None:
    begins = NOW - timedelta(days=1)
    release = replace(RELEASE_A, not_before=begins, pcrs={**A, 3: HOST[3]})
    (found,) = [one for one in statements(replace(REQUEST, releases=(release,))) if "Release" in one["Sid"]]
    assert found["Action"] == "kms:Decrypt"
    assert found["Principal"] == {"AWS": PARENT}
    pinned = found["Condition"]["StringEqualsIgnoreCase"]
    assert pinned == {
        f"kms:RecipientAttestation:PCR{index}": value.hex() for index, value in release.pcrs.items()
    }
    assert found["Condition"]["DateLessThan"] == {"aws:CurrentTime": "2027-01-31T00:00:00Z"}
    assert found["Condition"]["DateGreaterThanEquals"] == {"aws:CurrentTime": "2026-05-03T12:00:00Z"}
    assert found["Condition"]["StringEquals"] == {
        "kms:EncryptionContext:file": "0011",
        "kms:EncryptionContext:model": "demo-lesion",
    }


def test_a_release_without_an_end_has_no_date() -> None:
    (found,) = [
        one
        for one in statements(replace(REQUEST, releases=(replace(RELEASE_A, expires=None),)))
        if "Release" in one["Sid"]
    ]
    assert "DateLessThan" not in found["Condition"]


def test_the_sid_has_the_releases_label_and_differs_with_every_register() -> None:
    assert RELEASE_A.sid == f"Release{Release(name='A', pcrs=A).label}"
    sids = {
        KeyRelease(name="A", pcrs={**A, **more}).sid
        for more in ({}, {3: HOST[3]}, {4: HOST[3]}, {3: HOST[4]}, {16: B[16]}, {0: B[0]})
    }
    assert len(sids) == 6
    assert all(sid.isalnum() for sid in sids)


def test_an_irrevocable_policy_lets_nobody_change_it() -> None:
    compiled = compile_key_policy(replace(REQUEST, irrevocable=True))
    assert surprises(compiled) == {"admin-put"}
    assert is_clean(lint(compiled))
    bypass = put_commands("key.json", replace(REQUEST, irrevocable=True), KEY, iam_file="iam.json")[0]
    assert bypass.endswith("--bypass-policy-lockout-safety-check")
    assert "bypass" not in put_commands("key.json", REQUEST, KEY, iam_file="iam.json")[0]


registers = st.binary(min_size=48, max_size=48).filter(any)
tuples = st.fixed_dictionaries(
    {0: registers, 1: registers, 2: registers, 16: registers}, optional={3: registers, 8: registers}
)


@given(
    st.lists(tuples, min_size=1, max_size=5, unique_by=lambda one: tuple(sorted(one.items()))), st.booleans()
)
def test_what_is_compiled_is_clean_and_lets_no_bad_call_through(
    found: list[Mapping[int, bytes]], is_bounded: bool
) -> None:
    releases = tuple(
        KeyRelease(name=str(number), pcrs=pcrs, expires=EXPIRES if is_bounded else None)
        for number, pcrs in enumerate(found)
    )
    compiled = compile_key_policy(replace(REQUEST, releases=releases))
    facts = LintFacts(at=NOW, releases=releases, admin=ADMIN, parents=(PARENT,), context=CONTEXT)
    assert is_clean(lint(compiled))
    assert is_clean(lint(compiled, facts))
    assert let_through(compiled) == set()
    for pcrs in found:
        call = replace(CALLS["good"], recipient=Recipient(pcrs=pcrs))
        assert evaluate(compiled, call).allowed


def test_35_releases_fit_and_too_many_are_refused_with_their_size() -> None:
    def many(count: int) -> KeyPolicyRequest:
        random = Random(1)
        releases = (
            KeyRelease(name=str(n), pcrs={index: random.randbytes(48) for index in A}, expires=EXPIRES)
            for n in range(count)
        )
        return replace(REQUEST, releases=tuple(releases))

    assert len(compile_key_policy(many(35)).to_bytes()) <= 32 * 1024
    with pytest.raises(KeyPolicyError, match=r"KMS takes 32768 bytes, found \d+ for 60 releases") as caught:
        compile_key_policy(many(60))
    assert caught.value.code == "key-policy-size"


@pytest.mark.parametrize(
    ("code", "edits"),
    [
        ("no-release", {"releases": ()}),
        ("no-model-register", {"releases": (KeyRelease(name="A", pcrs={0: A[0], 1: A[1], 2: A[2]}),)}),
        ("principal", {"parents": ()}),
        ("principal", {"parents": (PARENT, PARENT)}),
        ("principal", {"parents": (PARENT, ADMIN)}),
        ("principal", {"parents": tuple(f"{PARENT}{n}" for n in range(17))}),
        ("principal", {"admin": "arn:aws:sts::111122223333:assumed-role/KeyAdmin/me"}),
        ("usage", {"admin": "arn:aws:iam::111122223333:root"}),
        ("usage", {"admin": "*"}),
        ("usage", {"parents": ("111122223333",)}),
        ("usage", {"parents": ("*",)}),
        ("context", {"context": {}}),
        ("context", {"context": {"model": "a", "MODEL": "b"}}),
        ("context", {"context": {"model": ""}}),
        ("context", {"context": {"": "a"}}),
        ("context", {"context": {"a:b": "a"}}),
        ("context", {"context": {"model": "${aws:username}"}}),
        ("context", {"context": {"model": "ä"}}),
        ("context", {"context": {"model": "a\n"}}),
        ("context", {"context": {str(n): "a" for n in range(17)}}),
    ],
)
def test_what_could_release_too_much_is_refused(code: str, edits: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        replace(REQUEST, **edits)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("code", "policy"),
    [
        ("policy-debug", replace(POLICY, unsafe_allow_debug=True)),
        ("policy-trust", replace(POLICY, accept=frozenset({Trust.SIMULATED}))),
        ("policy-trust", replace(POLICY, accept=frozenset({Trust.NITRO, Trust.SIMULATED}))),
        ("policy-trust", replace(POLICY, accept=frozenset({Trust.EMULATED}))),
    ],
)
def test_a_policy_that_is_not_for_production_is_refused(code: str, policy: Policy) -> None:
    with pytest.raises(KeyPolicyError) as caught:
        request_from_policy(policy, at=NOW, **WHO)
    assert caught.value.code == code
    assert caught.value.hint


def test_expired_and_revoked_releases_are_left_out_and_coming_ones_are_in() -> None:
    policy = Policy(
        accept=NITRO,
        releases=(
            Release(name="old", pcrs=B, expires=NOW),
            Release(name="now", pcrs=A, expires=EXPIRES),
            Release(name="same", pcrs=A, expires=EXPIRES),
            Release(name="next", pcrs={**A, 16: B[16]}, not_before=EXPIRES),
            Release(name="leaked", pcrs={**B, 0: A[0]}, expires=NOW),
        ),
        revoked=(Revocation(date=NOW, reason="a leak", pcrs={**B, 0: A[0]}),),
    )
    found = key_releases(policy, NOW)
    assert {one.name for one in found} == {"now", "next"}
    assert [one.sid for one in found] == sorted(one.sid for one in found)
    before = key_releases(policy, NOW - timedelta(seconds=1))
    assert {one.name for one in before} == {"old", "now", "next"}, "a revocation counts before its date too"
    with pytest.raises(KeyPolicyError) as caught:
        request_from_policy(replace(policy, releases=policy.releases[:1]), at=NOW, **WHO)
    assert caught.value.code == "no-release"


def test_a_revoked_register_that_a_release_leaves_open_gets_a_deny() -> None:
    leaked = {8: register("leaked")}
    policy = replace(POLICY, revoked=(Revocation(date=NOW, reason="a leaked key", pcrs=leaked),))
    request = request_from_policy(policy, at=NOW, **WHO)
    assert request.revoked == (leaked,)
    compiled = compile_key_policy(request)
    call = CALLS["good"]
    assert call.recipient is not None
    signed = replace(call, recipient=replace(call.recipient, pcrs={**A, **leaked}))
    assert evaluate(compiled, call).allowed
    verdict = evaluate(compiled, signed)
    assert (verdict.allowed, verdict.statement and verdict.statement.sid) == (False, "Revoked1")
    unrelated = replace(POLICY, revoked=(Revocation(date=NOW, reason="other", pcrs={0: B[0]}),))
    assert partly_revoked(unrelated, key_releases(unrelated, NOW)) == ()


def test_the_operator_gets_decrypt_on_the_one_key() -> None:
    assert operator_policy(KEY)["Statement"] == [
        {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": KEY}
    ]
    with pytest.raises(UsageError, match="the ARN of a key, found 'alias/weights'"):
        operator_policy("alias/weights")


def test_the_commands_can_be_pasted_into_a_shell() -> None:
    user = "arn:aws:iam::444455556666:user/ada"
    request = replace(REQUEST, parents=(PARENT, user))
    owner, role, person = put_commands("my key.json", request, KEY, iam_file="iam.json")
    assert owner == (
        f"aws kms put-key-policy --key-id {KEY} --policy-name default --policy 'file://my key.json'"
    )
    assert role.startswith("aws iam put-role-policy --role-name EnclaveParent ")
    assert person.startswith("aws iam put-user-policy --user-name ada ")
    assert person.endswith(" --policy-document file://iam.json")


def test_a_policy_with_an_end_in_the_first_second_of_a_day_ends_there() -> None:
    compiled = compile_key_policy(REQUEST)
    assert evaluate(
        compiled, replace(CALLS["good"], at=datetime(2027, 1, 30, 23, 59, 59, tzinfo=UTC))
    ).allowed
    assert not evaluate(compiled, replace(CALLS["good"], at=EXPIRES)).allowed
