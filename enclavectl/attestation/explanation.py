"""What a policy says of a document's registers, release by release, whether it accepts them or not.

Nothing here is a verification: the registers may be anybody's claims. The recipe is ``verify``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from enclavectl.attestation.comparison import ReleaseComparison, rank_releases
from enclavectl.attestation.policy import Policy
from enclavectl.attestation.release import LifeState, Registers, Release, Revocation
from enclavectl.errors import AttestationError


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRelease:
    """A release beside the document, and what the release is worth at the time that was asked about."""

    comparison: ReleaseComparison
    state: LifeState

    @property
    def release(self) -> Release:
        """The release."""
        return self.comparison.release


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a policy says of registers at one time.

    ``judged`` has every release, the nearest first. ``accepted`` is the release that matched and was valid,
    or None; ``refusal`` is then the rule that ``verify`` would name, or None for an allowed debug enclave.
    """

    at: datetime
    is_debug: bool
    judged: tuple[JudgedRelease, ...]
    revocation: Revocation | None
    accepted: Release | None
    refusal: AttestationError | None

    @property
    def nearest(self) -> JudgedRelease | None:
        """The release with the fewest differences; None if the policy names none."""
        return self.judged[0] if self.judged else None


def explain(policy: Policy, claims: Registers, *, at: datetime) -> Explanation:
    """Compare registers with every release of the policy; ``at`` has a time zone.

    The rules of debug mode and of releases are those of ``verify``, in its order. Signature, signer, age,
    nonce and user data are not judged.

    Raises:
        UsageError: ``at`` has no time zone.
    """
    accepted: Release | None = None
    refusal: AttestationError | None = None
    try:
        policy.check_debug(claims)
        if not claims.is_debug:
            accepted = policy.match_release(claims, at=at)
    except AttestationError as error:
        refusal = error
    return Explanation(
        at=at,
        is_debug=claims.is_debug,
        judged=tuple(
            JudgedRelease(comparison=one, state=policy.state_of(one.release, at))
            for one in rank_releases(policy.releases, claims.pcrs)
        ),
        revocation=policy.revocation_of(claims),
        accepted=accepted,
        refusal=refusal,
    )
