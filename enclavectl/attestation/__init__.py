"""The verification of an enclave: evidence in, a VerifiedDocument or an AttestationError out.

    policy = parse_policy(text, source="policy.yaml")
    verified = verify(document, policy, root=aws_nitro_root(), nonce=..., user_data=..., now=...)

The room's rules: parsing is not verifying (``Claims`` stay inside). A missing value satisfies no
check. An empty policy cannot be made. ``recipe`` holds the only recipe.
"""

from typing import TYPE_CHECKING

from enclavectl.attestation.codes import AttestationCode, PolicyCode
from enclavectl.attestation.policy import Policy
from enclavectl.attestation.policy_file import parse_policy, render_policy
from enclavectl.attestation.recipe import ChainSummary, Demands, Facts, Step, Taken, take_steps
from enclavectl.attestation.release import ExpiryNote, LifeState, Release, Revocation
from enclavectl.attestation.standing import Standing
from enclavectl.attestation.trust import EmulatorRoot, Root, TrustRoot, aws_nitro_root, root_for
from enclavectl.attestation.verify import (
    ArchivedDocument,
    VerifiedDocument,
    examine_archived,
    verify,
)
from enclavectl.lazy_names import lazy_names
from enclavectl.trust import Trust

if TYPE_CHECKING:
    from enclavectl.attestation.explanation import Explanation, explain

__all__ = [
    "ArchivedDocument",
    "AttestationCode",
    "ChainSummary",
    "Demands",
    "EmulatorRoot",
    "ExpiryNote",
    "Explanation",
    "Facts",
    "LifeState",
    "Policy",
    "PolicyCode",
    "Release",
    "Revocation",
    "Root",
    "Standing",
    "Step",
    "Taken",
    "Trust",
    "TrustRoot",
    "VerifiedDocument",
    "aws_nitro_root",
    "examine_archived",
    "explain",
    "parse_policy",
    "render_policy",
    "root_for",
    "take_steps",
    "verify",
]

if not TYPE_CHECKING:  # only `policy explain` needs them
    __getattr__ = lazy_names(
        __name__, {"Explanation": "attestation.explanation", "explain": "attestation.explanation"}
    )
