"""Any bytes are what aws kms describe-key or list-grants prints, or a KeyPolicyError."""

from __future__ import annotations

import contextlib

from enclavectl.kms import KeyPolicyError
from enclavectl.kms.facts import parse_grants, parse_key_metadata

SEEDS: list[bytes] = [
    b"{}",
    b'{"Grants": [{"GrantId": "a", "Operations": ["Decrypt"]}, {"GrantId": "b"}], "Truncated": false}',
    b"""{"KeyMetadata": {
        "AWSAccountId": "111122223333", "Arn": "arn:aws:kms:eu-central-1:111122223333:key/k", "Enabled": true,
        "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT", "Origin": "AWS_KMS",
        "MultiRegion": false, "CustomKeyStoreId": "cks-1"
    }}""",
]


def one(data: bytes) -> None:
    with contextlib.suppress(KeyPolicyError):
        assert all(isinstance(grant, str) for grant in parse_grants(data, source="fuzz"))
    with contextlib.suppress(KeyPolicyError):
        assert isinstance(parse_key_metadata(data, source="fuzz").enabled, bool)
