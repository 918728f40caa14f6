"""The label of a release: 16 hex digits that name its code and its model.

Policies, gateways and clusters call a release by it. A gateway's process computes it without the policies'
room, which can verify; and so does a command that must not wait for cryptography.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# PCR0 is a hash over parts without their lengths, so PCR1 and PCR2 are needed to tell images apart.
# https://blog.trailofbits.com/2024/02/16/a-few-notes-on-aws-nitro-enclaves-images-and-attestation/
REQUIRED_PCRS = (0, 1, 2)
# The enclave itself extends PCR16 with its model, so PCR16 says nothing without the code that extended it.
MODEL_PCR = 16
_LABEL = re.compile(r"[0-9a-f]{16}", re.ASCII)


def label_of(pcrs: Mapping[int, bytes], *, model: bool) -> str:
    """Compute the label of PCR0, PCR1 and PCR2, and of PCR16 if ``model``; all of them must be there."""
    from hashlib import sha256  # noqa: PLC0415 - OpenSSL takes 8 ms to load, which most commands do not need

    indexes = (*REQUIRED_PCRS, MODEL_PCR) if model else REQUIRED_PCRS
    return sha256(b"".join(pcrs[index] for index in indexes)).hexdigest()[:16]


def is_label(text: str) -> bool:
    """Return whether a text has the form of a label."""
    return _LABEL.fullmatch(text) is not None
