"""Any bytes are a key policy that reads the same once written and can be judged, or a KeyPolicyError."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from enclavectl.kms import (
    Call,
    KeyPolicyError,
    Recipient,
    evaluate,
    fix,
    lint,
    parse_caller,
    parse_key_policy,
)

_ROLE = "arn:aws:iam::444455556666:role/Parent"
_CONDITION = {
    "StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": "ab" * 48},
    "ForAllValues:StringLike": {"kms:EncryptionContextKeys": ["model", "f*"]},
    "Null": {"kms:RecipientAttestation:PCR16": False},
    "DateLessThan": {"aws:CurrentTime": "2027-01-31T00:00:00Z"},
    "NumericLessThanEqualsIfExists": {"kms:RotationPeriodInDays": 365},
    "IpAddress": {"aws:SourceIp": "192.0.2.0/24"},
}
_STATEMENT = {
    "Sid": "A",
    "Effect": "Allow",
    "Principal": {"AWS": [_ROLE, "111122223333"], "Service": "lambda.amazonaws.com"},
    "Action": ["kms:De*", "kms:?ncrypt"],
    "Resource": "*",
    "Condition": _CONDITION,
}
_DENY = {"Effect": "Deny", "NotPrincipal": {"AWS": "*"}, "NotAction": "kms:*", "NotResource": "arn:*"}
SEEDS: list[bytes] = [
    b"",
    b"{}",
    b'{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "kms:*"}}',
    json.dumps({"Version": "2012-10-17", "Id": "k", "Statement": [_STATEMENT, _DENY]}).encode(),
    json.dumps({"Version": "2008-10-17", "Statement": [{**_STATEMENT, "Effect": "Deny"}]}).encode(),
]
_CALL = Call(
    caller=parse_caller(_ROLE),
    action="Decrypt",
    at=datetime(2026, 5, 4, tzinfo=UTC),
    context={"model": "m"},
    recipient=Recipient(pcrs={0: b"\xab" * 48, 16: b"\x01" * 48}),
)


def one(data: bytes) -> None:
    try:
        policy = parse_key_policy(data, source="fuzz")
    except KeyPolicyError:
        return
    written = policy.to_bytes()
    again = parse_key_policy(written, source="fuzz", limit=1 << 20)
    assert again.statements == policy.statements
    assert again.to_bytes() == written
    verdict = evaluate(policy, _CALL)
    assert evaluate(again, _CALL).allowed is verdict.allowed
    assert not verdict.allowed or verdict.statement is not None
    for finding in lint(policy):
        json.dumps(finding.to_json())
    parse_key_policy(fix(policy).to_bytes(), source="fixed", limit=1 << 20)
