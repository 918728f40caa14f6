"""The actions of AWS KMS that a key policy can name, and what each of them gives away.

Names: the service authorization reference of AWS KMS,
https://docs.aws.amazon.com/service-authorization/latest/reference/list_awskeymanagementservice.html
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

PREFIX = "kms:"

# Actions that hand out a plaintext key or secret, and that can carry an attestation document:
# https://docs.aws.amazon.com/kms/latest/developerguide/conditions-attestation.html
RELEASING = ("Decrypt", "GenerateDataKey", "GenerateDataKeyPair", "DeriveSharedSecret")
# The five calls with a Recipient. GenerateRandom names no key, so no key policy is asked.
WITH_RECIPIENT = frozenset({*RELEASING, "GenerateRandom"})
# Ways around an attestation condition: none of these calls can carry a document.
DETOURS = (
    "ReEncrypt*",
    "CreateGrant",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateDataKeyPairWithoutPlaintext",
    "Decapsulate",
)
# What the key's administrator may do: everything about the key, and nothing with it.
ADMINISTRATION = (
    "DescribeKey",
    "GetKeyPolicy",
    "PutKeyPolicy",
    "EnableKey",
    "DisableKey",
    "ScheduleKeyDeletion",
    "CancelKeyDeletion",
    "TagResource",
    "UntagResource",
    "ListGrants",
    "RevokeGrant",
    "GetKeyRotationStatus",
)
# Calls that KMS takes from another account than the key's; it refuses all others, whatever the policy says:
# https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-modifying-external-accounts.html
CROSS_ACCOUNT = frozenset(
    {
        *("CreateGrant", "Decapsulate", "Decrypt", "DeriveSharedSecret", "DescribeKey", "Encapsulate"),
        *("Encrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"),
        *("GenerateDataKeyWithoutPlaintext", "GenerateMac", "GetKeyRotationStatus", "GetPublicKey"),
        *("ListGrants", "ReEncryptFrom", "ReEncryptTo", "RetireGrant", "RevokeGrant", "Sign", "Verify"),
        "VerifyMac",
    }
)
ACTIONS = CROSS_ACCOUNT | {
    *("CancelKeyDeletion", "ConnectCustomKeyStore", "CreateAlias", "CreateCustomKeyStore", "CreateKey"),
    *("DeleteAlias", "DeleteCustomKeyStore", "DeleteImportedKeyMaterial", "DescribeCustomKeyStores"),
    *("DisableKey", "DisableKeyRotation", "DisconnectCustomKeyStore", "EnableKey", "EnableKeyRotation"),
    *("GenerateRandom", "GetKeyPolicy", "GetParametersForImport", "ImportKeyMaterial", "ListAliases"),
    *("ListKeyPolicies", "ListKeyRotations", "ListKeys", "ListResourceTags", "ListRetirableGrants"),
    *("PutKeyPolicy", "ReplicateKey", "RotateKeyOnDemand", "ScheduleKeyDeletion", "TagResource"),
    *("SynchronizeMultiRegionKey", "UntagResource", "UpdateAlias", "UpdateCustomKeyStore"),
    *("UpdateKeyDescription", "UpdatePrimaryRegion"),
}


@lru_cache(maxsize=1024)
def named_by(patterns: tuple[str, ...]) -> frozenset[str]:
    """Return the actions, without ``kms:``, that any of ``patterns`` names, such as ``kms:ReEncrypt*``."""
    return frozenset(action for action in ACTIONS if names(patterns, action))


def names(patterns: Iterable[str], action: str) -> bool:
    """Return whether one of ``patterns`` names ``action`` (without ``kms:``). Case does not count."""
    return any(like(one.lower(), f"{PREFIX}{action}".lower()) for one in patterns)


def like(pattern: str, text: str) -> bool:
    """Return whether IAM's ``pattern`` matches all of ``text``: ``*`` is any text, ``?`` any one character.

    The time is at most the product of both lengths. A regular expression would take longer for each star.
    """
    if len(pattern) - pattern.count("*") > len(text):
        return False
    at = place = 0
    star, resume = -1, 0  # where the last star stands, and where its text may end
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in {"?", text[place]}:
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = star + 1, resume
        else:
            return False
    return not pattern[at:].strip("*")
