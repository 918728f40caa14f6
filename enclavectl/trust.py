"""The trust in evidence as one word, in a small module for callers that verify nothing."""

from __future__ import annotations

import base64
import re
from enum import StrEnum
from hashlib import sha256

# SHA-256 of the DER of AWS's roots, one per partition; attestation/roots/README.md names their sources.
# GovCloud's: https://docs.aws.amazon.com/govcloud-us/latest/UserGuide/govcloud-ec2.html
AWS_ROOTS = {
    "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b": "aws",
    "20bcd30a3e168ea03789e1c45912bc123c4de3c977b8a6e1c125c7929d668b3b": "aws-us-gov",
}
# The name of the backend local's root, which signs for processes of this machine and for nothing else.
LOCAL_ROOT = "development root of this machine"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


class Trust(StrEnum):
    """The authority behind a document, strongest first."""

    NITRO = "nitro"
    """The AWS Nitro PKI signed for an enclave whose code is measured and that nobody can look into."""
    DEBUG = "debug"
    """A debug-mode enclave: signed, but its code is not measured and its console can be read."""
    EMULATED = "emulated"
    """QEMU measured the image; nobody signed."""
    SIMULATED = "simulated"
    """A development root made on some machine signed. It protects nothing."""


def trust_of_root(pem: bytes) -> Trust:
    """Return the trust for which the one certificate of a PEM file can stand, by its pinned fingerprint.

    Nothing is verified, and nothing but the fingerprint is read: a file that is no certificate stands for
    ``simulated`` here, and is refused where it is used. For `list`, which must not wait for cryptography.
    """
    found = _CERTIFICATE.findall(pem)
    try:
        der = base64.b64decode(b"".join(found[0].split()), validate=True) if len(found) == 1 else b""
    except ValueError:
        der = b""
    return Trust.NITRO if sha256(der).hexdigest() in AWS_ROOTS else Trust.SIMULATED
