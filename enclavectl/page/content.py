"""What a page holds besides its code: the policy, the root and the gateway, as JSON."""

from __future__ import annotations

from datetime import timedelta

from enclavectl.attestation import Policy
from enclavectl.attestation.policy_json import release_json, revocation_json


def policy_members(policy: Policy) -> dict[str, object]:
    """Return a policy as browser/src/policy.ts reads it."""
    return {
        "accept": sorted(str(one) for one in policy.accept),
        "max_age_s": policy.max_age // timedelta(seconds=1),
        "clock_skew_s": policy.clock_skew // timedelta(seconds=1),
        "unsafe_allow_debug": policy.unsafe_allow_debug,
        "releases": [release_json(one) for one in policy.releases],
        "revoked": [revocation_json(one) for one in policy.revoked],
    }
