"""Nineteen calls, and for each rule a key policy that is wrong and one that is right.

The calls are made of one key in the model owner's account and the operator's parent in another account. The
policies are those of docs/kms.md; what a wrong one lets through is written beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha384
from typing import Any

from enclavectl.kms.evaluate import Call, Recipient, evaluate
from enclavectl.kms.facts import LintFacts
from enclavectl.kms.key_policy import KeyPolicy
from enclavectl.kms.principals import parse_caller
from enclavectl.kms.reader import parse_key_policy
from enclavectl.kms.releases import KeyRelease

OWNER, OPERATOR, STRANGER = "111122223333", "444455556666", "777788889999"
KEY = f"arn:aws:kms:eu-central-1:{OWNER}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ADMIN = f"arn:aws:iam::{OWNER}:role/KeyAdmin"
DEV = f"arn:aws:iam::{OWNER}:role/Developer"
PARENT = f"arn:aws:iam::{OPERATOR}:role/EnclaveParent"
STRANGE = f"arn:aws:iam::{STRANGER}:role/Stranger"
CONTEXT = {"model": "demo-lesion", "file": "0011"}
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
EXPIRES = datetime(2027, 1, 31, tzinfo=UTC)
ZERO = bytes(48)


def register(text: str) -> bytes:
    return sha384(text.encode()).digest()


A = {index: register(f"A{index}") for index in (0, 1, 2, 16)}
B = {index: register(f"B{index}") for index in (0, 1, 2, 16)}
HOST = {3: register("H3"), 4: register("H4"), 8: register("H8")}
RELEASE_A = KeyRelease(name="A", pcrs=A, expires=EXPIRES)
RELEASE_B = KeyRelease(name="B", pcrs=B, expires=EXPIRES)
FACTS = LintFacts(at=NOW, releases=(RELEASE_A,), admin=ADMIN, parents=(PARENT,), context=CONTEXT)


def _call(
    who: str, action: str, pcrs: Mapping[int, bytes] | None = None, context: Mapping[str, str] = CONTEXT
) -> Call:
    recipient = None if pcrs is None else Recipient(pcrs={**HOST, **pcrs})
    return Call(
        caller=parse_caller(who), action=action, at=NOW, key=KEY, context=context, recipient=recipient
    )


def _decrypt(pcrs: Mapping[int, bytes] | None, **more: Any) -> Call:
    return _call(PARENT, "Decrypt", pcrs, **more)


CALLS: dict[str, Call] = {
    "good": _decrypt(A),
    "parent-plain": _decrypt(None),
    "other-enclave": _decrypt({**{index: register(f"C{index}") for index in (0, 1, 2)}, 16: A[16]}),
    "mixed-releases": _decrypt({**A, 2: B[2]}),
    "other-kernel": _decrypt({**A, 1: register("kernel")}),
    "other-model": _decrypt({**A, 16: register("model")}),
    "unlocked-16": _decrypt({index: A[index] for index in (0, 1, 2)}),
    "debug": _decrypt({**A, 0: ZERO, 1: ZERO, 2: ZERO}),
    "other-context": _decrypt(A, context={"model": "other", "file": "2233"}),
    "dev-iam": _call(DEV, "Decrypt"),
    "stranger-attested": _call(STRANGE, "Decrypt", A),
    "tpm-recipient": replace(_decrypt(A), recipient=Recipient(pcrs=A, nitrotpm=True)),
    "reencrypt-out": _call(PARENT, "ReEncryptFrom"),
    "grant": _call(PARENT, "CreateGrant"),
    "genkey-plain": _call(PARENT, "GenerateDataKey"),
    "put-policy-dev": _call(DEV, "PutKeyPolicy", context={}),
    "admin-put": _call(ADMIN, "PutKeyPolicy", context={}),
    "admin-encrypt": _call(ADMIN, "Encrypt"),
    "admin-decrypt-plain": _call(ADMIN, "Decrypt"),
}
GOOD = ("good", "admin-put", "admin-encrypt")
BAD = tuple(name for name in CALLS if name not in GOOD)


def surprises(policy: KeyPolicy) -> set[str]:
    """The calls that a policy should have decided otherwise."""
    return {name for name, call in CALLS.items() if evaluate(policy, call).allowed is not (name in GOOD)}


def let_through(policy: KeyPolicy) -> set[str]:
    """The bad calls that a policy allows."""
    return surprises(policy) & set(BAD)


def ra(pcrs: Mapping[Any, object]) -> dict[str, object]:
    """Condition keys of registers; a register's bytes are written in hex."""
    return {
        f"kms:RecipientAttestation:PCR{index}": value.hex() if isinstance(value, bytes) else value
        for index, value in pcrs.items()
    }


CTX: dict[str, object] = {f"kms:EncryptionContext:{name}": value for name, value in CONTEXT.items()}
PCRS_A, PCRS_B = ra(A), ra(B)
Json = dict[str, Any]


def allow(sid: str, who: object, action: object, **condition: object) -> Json:
    return _statement("Allow", sid, {"AWS": who}, action, condition)


def deny(sid: str, action: object, **condition: object) -> Json:
    return _statement("Deny", sid, "*", action, condition)


def _statement(effect: str, sid: str, who: object, action: object, condition: Json) -> Json:
    value = {"Sid": sid, "Effect": effect, "Principal": who, "Action": action, "Resource": "*"}
    return {**value, "Condition": condition} if condition else value


def release(sid: str = "Release1", who: object = PARENT, **condition: Any) -> Json:
    return allow(sid, who, "kms:Decrypt", **condition)


ADM = allow(
    "OwnerAdmin",
    ADMIN,
    ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion"],
)
ENC = allow("OwnerSeals", ADMIN, "kms:Encrypt", StringEquals=CTX)
REL_A = release("ReleaseA", StringEqualsIgnoreCase=PCRS_A, StringEquals=CTX)
REL_B = release("ReleaseB", StringEqualsIgnoreCase=PCRS_B, StringEquals=CTX)
RELEASING = ["kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair", "kms:DeriveSharedSecret"]
NULL_0 = {"kms:RecipientAttestation:PCR0": "true"}
GUARD = deny("Guard", RELEASING, Null=NULL_0)
NEVER = deny(
    "Never", ["kms:ReEncrypt*", "kms:CreateGrant", "kms:GenerateDataKeyWithoutPlaintext", "kms:Decapsulate"]
)


def without(value: Json, key: str) -> Json:
    return {name: item for name, item in value.items() if name != key}


@dataclass(frozen=True, slots=True)
class Pair:
    """A wrong policy, what the evaluator says it decides wrongly, and the right one."""

    bad: list[Json]
    wrong: tuple[str, ...]
    fixed: list[Json]
    alone: bool = False  # OwnerAdmin and OwnerSeals are not before it

    @property
    def bad_policy(self) -> KeyPolicy:
        return key_policy(self.bad if self.alone else [ADM, ENC, *self.bad])

    @property
    def fixed_policy(self) -> KeyPolicy:
        return key_policy(self.fixed if self.alone else [ADM, ENC, *self.fixed])


def key_policy(statements: list[Json]) -> KeyPolicy:
    data = json.dumps({"Version": "2012-10-17", "Statement": statements}).encode()
    return parse_key_policy(data, source="test")


def _guards(pcrs: Mapping[int, bytes]) -> list[Json]:
    return [
        deny(f"Guard{index}", "kms:Decrypt", StringNotEqualsIgnoreCase=ra({index: value}))
        for index, value in pcrs.items()
    ]


_ENCLAVES = ("other-enclave", "mixed-releases", "other-kernel", "other-model", "unlocked-16", "debug")
_ANY = ("parent-plain", *_ENCLAVES, "tpm-recipient")
_PLAIN_A = release(StringEquals=CTX)
UPPER = {key: str(value).upper() for key, value in PCRS_A.items()}
ZEROS = ra({**{index: [A[index].hex(), ZERO.hex()] for index in (0, 1, 2)}, 16: A[16]})
BOTH = ra({index: [A[index].hex(), B[index].hex()] for index in A})
OX = {**PCRS_A, "kms:RecipientAttestation:PCR0": "0x" + A[0].hex()}

PAIRS: dict[str, Pair] = {
    "K01": Pair([_PLAIN_A], _ANY, [REL_A]),
    "K02": Pair(
        [allow("Root", f"arn:aws:iam::{OWNER}:root", "kms:*"), REL_A],
        ("dev-iam", "put-policy-dev", "admin-decrypt-plain"),
        [ADM, ENC, REL_A],
        alone=True,
    ),
    "K03": Pair(
        [allow("Use", [OWNER, OPERATOR], "kms:Decrypt")],
        (*_ANY, "other-context", "dev-iam", "admin-decrypt-plain"),
        [REL_A],
    ),
    "K04": Pair([release(StringEqualsIgnoreCase=ZEROS, StringEquals=CTX)], ("debug",), [REL_A]),
    "K05": Pair([release(StringEqualsIgnoreCase=OX, StringEquals=CTX)], ("good",), [REL_A]),
    "K06": Pair(
        [release(StringEqualsIgnoreCase=ra({0: A[0], 16: A[16]}), StringEquals=CTX)],
        ("mixed-releases", "other-kernel"),
        [REL_A],
    ),
    "K07": Pair(
        [release(StringEqualsIgnoreCase=BOTH, StringEquals=CTX)], ("mixed-releases",), [REL_A, REL_B]
    ),
    "K08": Pair(
        [release(StringEqualsIgnoreCase=ra({3: HOST[3], 8: HOST[8]}), StringEquals=CTX)],
        _ENCLAVES,
        [release(StringEqualsIgnoreCase=ra({**A, 3: HOST[3]}), StringEquals=CTX)],
    ),
    "K09": Pair(
        [release(StringEqualsIgnoreCaseIfExists=PCRS_A, StringEquals=CTX)],
        ("parent-plain", "unlocked-16", "tpm-recipient"),
        [REL_A],
    ),
    "K10": Pair(
        [{**_PLAIN_A, "Condition": {"ForAllValues:StringEqualsIgnoreCase": PCRS_A, "StringEquals": CTX}}],
        ("parent-plain", "unlocked-16", "tpm-recipient"),
        [REL_A],
    ),
    "K11": Pair([release(StringLike=ra({0: "*"}), StringEquals=CTX)], _ENCLAVES, [REL_A]),
    "K12": Pair(
        [release(Null={"kms:RecipientAttestation": "false"}, StringEquals=CTX)], ("good",), [REL_A]
    ),
    "K13": Pair(
        [release(StringNotEquals=ra({0: ZERO}), StringEquals=CTX)],
        tuple(name for name in _ANY if name != "debug"),
        [REL_A],
    ),
    "K14": Pair([release(Null=ra({0: "false"}), StringEquals=CTX)], _ENCLAVES, [REL_A]),
    "K15": Pair([REL_A, allow("G", PARENT, "kms:CreateGrant")], ("grant",), [REL_A, NEVER]),
    "K16": Pair([REL_A, allow("R", PARENT, "kms:ReEncrypt*")], ("reencrypt-out",), [REL_A, NEVER]),
    "K17": Pair([REL_A, allow("M", PARENT, "kms:GenerateDataKey*")], ("genkey-plain",), [REL_A]),
    "K18": Pair(
        [REL_A, deny("Guard", "kms:*", Null=NULL_0)], ("admin-put", "admin-encrypt"), [REL_A, GUARD]
    ),
    "K19": Pair([_PLAIN_A, without(GUARD, "Resource")], _ANY, [REL_A, GUARD]),
    "K20": Pair(
        [release(who="*", StringEqualsIgnoreCase=PCRS_A, StringEquals=CTX)], ("stranger-attested",), [REL_A]
    ),
    "K21": Pair([release(StringEqualsIgnoreCase=PCRS_A)], ("other-context",), [REL_A]),
    "K22": Pair([release(StringEquals={**UPPER, **CTX})], ("good",), [REL_A]),
    "K23": Pair(
        [release(StringEqualsIgnoreCase=ra({index: A[index] for index in (0, 1, 2)}), StringEquals=CTX)],
        ("other-model", "unlocked-16"),
        [REL_A],
    ),
    "K24": Pair(
        [release(StringEqualsIgnoreCase=ra({16: A[16]}), StringEquals=CTX)],
        ("other-enclave", "mixed-releases", "other-kernel", "debug"),
        [REL_A],
    ),
    "K25": Pair(
        [
            REL_A,
            {
                "Sid": "N",
                "Effect": "Allow",
                "Principal": {"AWS": PARENT},
                "NotAction": "kms:Decrypt",
                "Resource": "*",
            },
        ],
        ("reencrypt-out", "grant", "genkey-plain"),
        [REL_A],
    ),
    "K26": Pair(
        [_PLAIN_A, deny("Guard", "kms:Decrypt", StringNotEqualsIgnoreCase=PCRS_A)],
        _ENCLAVES,
        [_PLAIN_A, *_guards(A)],
    ),
    "K27": Pair(
        [ADM, {**ENC, "Condition": {"StringEqualsIgnoreCase": PCRS_A, "StringEquals": CTX}}, REL_A],
        ("admin-encrypt",),
        [ADM, ENC, REL_A],
        alone=True,
    ),
    "K28": Pair(
        [allow("OwnerAdmin", ADMIN, "kms:*"), REL_A],
        ("admin-decrypt-plain",),
        [ADM, ENC, REL_A],
        alone=True,
    ),
    "K29": Pair([REL_A, allow("W", DEV, "kms:PutKeyPolicy")], ("put-policy-dev",), [REL_A]),
    "K30": Pair(
        [REL_A, allow("Rand", PARENT, "kms:GenerateRandom", StringEqualsIgnoreCase=PCRS_A)], (), [REL_A]
    ),
}  # fmt: skip
