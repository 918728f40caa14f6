"""PCR3 and PCR4 from the values that the hypervisor measures into them.

Each is SHA-384 over 48 zero bytes and the text, as one extension from zero makes it.
https://docs.aws.amazon.com/enclaves/latest/user/set-up-attestation.html
"""

from __future__ import annotations

import hashlib
import re

from enclavectl.attestation.document import PCR_BYTES
from enclavectl.errors import UsageError

ROLE_PCR = 3
INSTANCE_PCR = 4

# A role's path and name: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/(?:[\x21-\x7e]{1,510}/)?[\w+=,.@-]{1,64}", re.ASCII)
_INSTANCE = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")


def role_register(arn: str) -> bytes:
    """Compute PCR3 of an enclave whose parent has the IAM role of this ARN.

    Raises:
        UsageError: it is not the ARN of a role; that of an assumed role is another one.
    """
    if _ROLE.fullmatch(arn) is None:
        raise UsageError(
            f"role: expected an ARN such as arn:aws:iam::123456789012:role/NAME, found {arn!r:.100}",
            hint="aws iam get-role --role-name NAME prints it; sts get-caller-identity has another one",
        )
    return _extended(arn)


def instance_register(instance_id: str) -> bytes:
    """Compute PCR4 of an enclave on this instance. No other instance has it.

    Raises:
        UsageError: it is no instance id.
    """
    if _INSTANCE.fullmatch(instance_id) is None:
        raise UsageError(
            f"instance: expected an id such as i-0123456789abcdef0, found {instance_id!r:.60}",
            hint="aws ec2 describe-instances prints it; an attestation document's module_id begins with it",
        )
    return _extended(instance_id)


def _extended(text: str) -> bytes:
    return hashlib.sha384(bytes(PCR_BYTES) + text.encode()).digest()
